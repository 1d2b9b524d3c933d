"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const { sets, lists, ranked } = JSON.parse($("data").textContent);
  const NUMBERS = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array };
  const TYPICAL = 3, PAGE = 50;
  const number = (value) => value.toLocaleString("en");

  /* The codes of a level: little-endian numbers in base64. */
  function unpacked(text, bytes) {
    const raw = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return Array.from(new NUMBERS[bytes](raw.buffer), Number);
  }
  for (const set of sets) set.codes = set.codes.map((level) => unpacked(level, set.bytes));

  function made(tag, text, attributes = {}, ...children) {
    const node = document.createElement(tag);
    if (text !== null) node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node[name] = value; else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  const counted = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
  const titleOf = (list, row) => list.titles[row] ?? String(list.ids[row]);

  /* The rows that begin with a prefix, most frequent items first. */
  function rowsOf(set, prefix) {
    const rows = [];
    for (let row = 0; row < set.codes[0].length; row++) {
      if (prefix.every((code, level) => set.codes[level][row] === code)) rows.push(row);
    }
    return rows;
  }

  /* The codes that follow, each with its rows, those of most rows first. */
  function childrenOf(set, prefix, rows) {
    const children = new Map();
    if (prefix.length === set.codes.length) return [];
    for (const row of rows) {
      const code = set.codes[prefix.length][row];
      if (!children.has(code)) children.set(code, []);
      children.get(code).push(row);
    }
    return [...children].sort((a, b) => b[1].length - a[1].length || a[0] - b[0]);
  }

  const typical = (set, rows) => rows.slice(0, TYPICAL).map((row) => titleOf(lists[set.list], row));

  /* Elements one page after another, by a button that asks for more. */
  function paged(parent, all, draw, what) {
    let shown = 0;
    const more = made("button", null, { type: "button", onclick: () => add(true) });
    function add(asked) {
      const next = all.slice(shown, shown + PAGE).map(draw);
      parent.append(...next);
      shown += next.length;
      more.textContent = `Show more of ${counted(all.length, what)}`;
      more.hidden = shown === all.length;
      if (asked) next[0].querySelector("button")?.focus();
    }
    add(false);
    return more;
  }

  function childTable(set, prefix, children, total) {
    const heads = ["Code", "Items", "Next codes", ranked ? "Typical titles, most frequent first" : "Titles"];
    const body = made("tbody", null);
    const more = paged(body, children, ([code, rows]) => {
      const path = [...prefix, code];
      const share = made("span", null, { style: `width:${100 * rows.length / total}%` });
      return made("tr", null, {},
        made("th", null, { scope: "row" }, made("button", String(code), { type: "button", onclick: () => go(path, true), "aria-label": `Prefix ${path.join(" ")}` })),
        made("td", number(rows.length), {}, made("span", null, { class: "bar", "aria-hidden": "true" }, share)),
        made("td", number(childrenOf(set, path, rows).length)),
        made("td", typical(set, rows).join("; "), { class: "titles" }));
    }, "code");
    const table = made("table", null, { class: "prefixes" },
      made("caption", prefix.length ? `Codes that follow ${prefix.join(" ")}` : "First codes"),
      made("thead", null, {}, made("tr", null, {}, ...heads.map((text) => made("th", text, { scope: "col" })))), body);
    return [made("div", null, { class: "scroll", role: "region", tabindex: "0", "aria-label": "Next codes" }, table), more];
  }

  function itemTable(set, rows) {
    const list = lists[set.list], body = made("tbody", null);
    const more = paged(body, rows, (row) => made("tr", null, {},
      made("th", titleOf(list, row), { scope: "row" }),
      made("td", String(list.ids[row])),
      made("td", null, {}, made("span", set.codes.map((codes) => codes[row]).join(" "), { class: "path" }))), "item");
    const heads = [ranked ? "Title, most frequent first" : "Title", "Item", "Codes"];
    const table = made("table", null, { class: "items" }, made("caption", "Items"),
      made("thead", null, {}, made("tr", null, {}, ...heads.map((text) => made("th", text, { scope: "col" })))), body);
    return [made("div", null, { class: "scroll", role: "region", tabindex: "0", "aria-label": "Items" }, table), more];
  }

  function trail(prefix) {
    const steps = [[], ...prefix.map((_, level) => prefix.slice(0, level + 1))];
    $("trail").replaceChildren(...steps.map((path) => made("button", path.length ? String(path.at(-1)) : "all", {
      type: "button", onclick: () => go(path, true), "aria-label": path.length ? `Prefix ${path.join(" ")}` : "All items",
      ...(path.length === prefix.length ? { "aria-current": "true" } : {}),
    })));
  }

  /* Show a prefix; `told` writes it into the field, too. */
  function go(prefix, told) {
    const set = sets[$("set").value], rows = rowsOf(set, prefix), children = childrenOf(set, prefix, rows);
    if (told) $("prefix").value = prefix.join(" ");
    trail(prefix);
    $("count").textContent = rows.length
      ? `${counted(rows.length, "item")}, ${counted(children.length, "next code")}`
      : `No item begins with ${prefix.join(" ")}.`;
    $("children").replaceChildren(...(children.length ? childTable(set, prefix, children, rows.length) : []));
    $("items").replaceChildren(...(rows.length && prefix.length ? itemTable(set, rows) : []));
  }

  function typed() {
    const parts = $("prefix").value.split(/[^0-9]+/).filter(Boolean).map(Number);
    go(parts.slice(0, sets[$("set").value].codes.length), false);
  }

  /* The prefix of a cell of the tree: its id ends in -code-12-5. */
  function cellOf(event) {
    const cell = event.target.closest?.('g[id*="-code-"]');
    const part = cell?.closest(".set");
    if (!part) return null;
    return { cell, set: part.dataset.set, prefix: cell.id.split("-code-")[1].split("-").map(Number) };
  }

  function jump(set, prefix) {
    $("set").value = set;
    go(prefix, true);
    $("browse").scrollIntoView();
    $("prefix").focus({ preventScroll: true });
  }

  document.addEventListener("mouseover", (event) => {
    const found = cellOf(event);
    if (!found || found.cell.querySelector("title")) return;
    const set = sets[found.set], rows = rowsOf(set, found.prefix);
    const title = document.createElementNS(found.cell.namespaceURI, "title");
    title.textContent = [`${found.prefix.join(" ")}: ${counted(rows.length, "item")}`, ...typical(set, rows)].join("\n");
    found.cell.prepend(title);
  });
  document.addEventListener("click", (event) => {
    const found = cellOf(event), link = event.target.closest?.("a[data-prefix]");
    if (found) jump(found.set, found.prefix);
    if (link) {
      event.preventDefault();
      jump(link.closest(".set").dataset.set, [Number(link.dataset.prefix)]);
    }
  });

  sets.forEach((set, place) => $("set").append(made("option", set.name, { value: place })));
  $("set").onchange = typed;
  $("prefix").oninput = typed;
  $("ask").onsubmit = (event) => event.preventDefault();
  $("browser").hidden = false;
  go([], true);
})();

// Tables that sort by a click on a column, and are filtered by text. A cell is text, or [number, text].
const SHORT = 22; // characters of a column whose cells stay in one line
const FILTERED = 12; // rows from which on there is a filter

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children); // text stays text
  return made;
}

const textOf = (cell) => (Array.isArray(cell) ? cell[1] : cell);
const valueOf = (cell) => (Array.isArray(cell) ? cell[0] : cell);

function compared(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

function makeTable(host, table, onRow = null) {
  const names = table.columns.map((name) => name.replace(/^>/, ""));
  const numeric = table.columns.map((name) => name.startsWith(">"));
  const bars = names.indexOf(table.bars);
  const longest = Math.max(1e-30, ...table.rows.map((row) => (bars < 0 ? 0 : valueOf(row[bars]) || 0)));
  const short = names.map((_, j) => !numeric[j] && table.rows.every((row) => textOf(row[j]).length <= SHORT));
  const kinds = names.map((_, j) => (numeric[j] ? { class: "number" } : short[j] ? { class: "short" } : {}));
  const body = element("tbody");
  const rows = table.rows.map((cells, i) => {
    const row = element("tr");
    cells.forEach((cell, j) => {
      const td = element("td", kinds[j], textOf(cell));
      if (j === bars) {
        td.classList.add("bars");
        td.style.setProperty("--part", `${(100 * (valueOf(cell) || 0)) / longest}%`);
      }
      row.append(td);
    });
    if (onRow && table.steps.length) {
      row.className = "link";
      row.tabIndex = 0;
      row.title = "Show it in the graph";
      row.addEventListener("click", () => onRow(table.steps[i]));
      row.addEventListener("keydown", (event) => event.key === "Enter" && onRow(table.steps[i]));
    }
    return { row, cells, text: cells.map(textOf).join("\n").toLowerCase() };
  });
  let filter = "";
  const show = () => body.replaceChildren(...rows.filter((r) => r.text.includes(filter)).map((r) => r.row));
  const heads = names.map((name, j) => {
    const button = element("button", { type: "button" }, name);
    const th = element("th", { ...kinds[j], scope: "col" }, button);
    button.addEventListener("click", () => {
      const largestFirst = th.ariaSort ? th.ariaSort === "ascending" : numeric[j] && name !== "step";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      th.setAttribute("aria-sort", largestFirst ? "descending" : "ascending");
      rows.sort((a, b) => (largestFirst ? -1 : 1) * compared(valueOf(a.cells[j]), valueOf(b.cells[j])));
      show();
    });
    return th;
  });
  if (rows.length >= FILTERED) {
    const input = element("input", { type: "search", placeholder: `Filter ${rows.length} rows`, "aria-label": "Filter the rows" });
    input.addEventListener("input", () => {
      filter = input.value.toLowerCase();
      show();
    });
    host.append(element("div", { class: "tools" }, input));
  }
  show();
  host.append(element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body)));
}

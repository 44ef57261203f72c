// The page of a report: filters, charts, the hover, and the list of configurations.
// Every text of the store enters through textContent; nothing is fetched.
"use strict";
(async () => {
const KINDS = ["measured", "simulated", "estimated", "external", "none"];
const SIGNS = {external: "□ imported", simulated: "◇ simulated", estimated: "◇ estimated"};
const FILTERS = [["kind", "Values"], ["model", "Model"], ["board", "Board"], ["engine", "Engine"]];
const MOST_SERIES = 7, MOST_LINES = 40, MOST_POINTS = 1500, MOST_LISTED = 200, MOST_PRINTED = 12, PAGE = 20, FEW = 20, ERRORS = 1;
const ENGINE = ["model", "board", "engine", "precision", "variant", "tp"];
const WORKLOAD = ["in", "out", "load", "decoding"];
const LINES = [[...ENGINE, ...WORKLOAD, "kind", "protocol"], [...ENGINE, "kind"],
               ["model", "board", "engine", "kind"]];
const POINTS = [["i"], [...ENGINE, "batch", "kind"], ["model", "board", "engine", "batch", "kind"],
                ["model", "board", "engine", "kind"]];
const GROUPS = {series: "", line: "", point: "", kind: "", batch: "batch", in_bin: "input",
                out_bin: "output", tp: "tensor parallel", phase: ""};
const page = JSON.parse(document.getElementById("charts").textContent);
const find = (selector, within = document) => within.querySelector(selector);
const drawn = new Map();

function made(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== null && text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// ---- points -------------------------------------------------------------------------------
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const columns = Object.entries(await new Response(stream).json());
  const values = columns.map(([name, column]) =>
    [name, column.words ? column.at.map(place => column.words[place]) : column]);
  const count = values.length ? values[0][1].length : 0;
  return Array.from({length: count}, (_, n) =>
    Object.fromEntries(values.map(([name, column]) => [name, column[n]])));
}

const joined = (row, names) => names.map(name => String(row[name])).join("|");

function counted(rows, name) {
  const counts = new Map();
  for (const row of rows) counts.set(row[name], (counts.get(row[name]) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

function level(rows, levels, most) {
  return levels.find(names => new Set(rows.map(row => joined(row, names))).size <= most) || [];
}

function grouped(rows, by) {
  const names = counted(rows, by).map(([name]) => name);
  const kept = new Set(names.slice(0, MOST_SERIES));
  const others = `… ${names.length - kept.size} others`;
  const lines = level(rows, LINES, MOST_LINES), points = level(rows, POINTS, MOST_POINTS);
  return rows.map(row => ({...row, series: kept.has(row[by]) ? row[by] : others,
                           line: joined(row, lines), point: joined(row, points)}));
}

// ---- words --------------------------------------------------------------------------------
const MISSING = "–";
function written(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return MISSING;
  if (typeof value !== "number") return String(value);
  return value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)
    ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
}
const percent = value => value === null ? MISSING : `${written(value * 100, 3)} %`;
const millis = value => value === null ? MISSING : `${written(value * 1000)} ms`;
const quoted = text => `'${String(text).replaceAll("'", "''")}'`;

function shell(sql) {
  const plain = !/["$`\\!]/.test(sql);
  return `campaign query ${plain ? `"${sql}"` : `'${sql.replaceAll("'", "'\\''")}'`}`;
}

function ofKind(kind) {
  if (kind === "estimated") return "energy_j is null and energy_estimated_j is not null";
  if (kind === "none") return "energy_j is null and energy_estimated_j is null";
  return `reality = ${quoted(kind === "measured" ? "real" : kind)} and energy_j is not null`;
}

function imported(rows) {
  const sources = [...new Set(rows.map(row => row.source.replace(/, simulated there$/, "")))].map(quoted);
  const some = rows.length <= FEW ? ` and row_id in (${rows.map(row => row.p).join(", ")})` : "";
  return shell(`select * from evidence where source in (${sources.join(", ")})${some}`);
}

function command(rows) {
  if (rows[0].source) return imported(rows);
  const tests = [];
  if (rows.length <= FEW) {
    const wanted = new Set(rows.map(row => `(${row.e}, ${row.p}, ${quoted(row.workload)})`));
    tests.push(`(engine_id, protocol_id, workload) in (${[...wanted].join(", ")})`);
  } else {
    for (const [column, field] of [["engine_id", "e"], ["protocol_id", "p"], ["batch_size", "batch"],
                                   ["input_tokens", "in"], ["output_tokens", "out"]]) {
      tests.push(`${column} in (${[...new Set(rows.map(row => row[field]))].join(", ")})`);
    }
  }
  const versions = new Set(rows.map(row => row.v));
  if (versions.size === 1) {
    const [version] = versions;
    tests.push(version === null ? "backend_version is null" : `backend_version = ${quoted(version)}`);
  }
  tests.push(ofKind(rows[0].kind));
  if (page.campaign !== null) tests.push(`${quoted(page.campaign)} = any(campaigns)`);
  return shell(`select * from measurements where ${tests.join(" and ")}`);
}

function energy(row) {
  if (row.j === null) return MISSING;
  const width = row.hw === null ? "" : ` ± ${written(row.hw, 2)}`;
  return `${row.kind === "estimated" ? "~" : ""}${written(row.j)}${width} J`;
}

function toldRow(row) {
  return {what: `${row.model} on ${row.board}`, rows: [row], said: [
    ["engine", [row.engine, row.precision, row.tp > 1 ? `TP ${row.tp}` : "", row.variant].filter(Boolean).join(" ")],
    ["workload", row.workload],
    ["J per output token", energy(row)],
    ["interval", row.basis === null ? "none: too few repeats" : `95 %, ${row.basis}`],
    ["net of idle", row.net === null ? MISSING : `${written(row.net)} J`],
    ["tokens per second", written(row.tps)], ["TTFT, ITL", `${millis(row.ttft)}, ${millis(row.itl)}`],
    ["values are", `${row.kind}${row.method ? ` (${row.method})` : ""}`],
    row.source ? ["source", row.source]
      : ["replicates", `${row.n} in ${row.sessions} session${row.sessions === 1 ? "" : "s"}`],
    ["marks and reasons", row.words || "none"]]};
}

function toldGroup(chart, datum, rows) {
  const only = name => new Set(rows.map(row => row[name])).size === 1;
  const shared = ["model", "board", "engine", "precision"].filter(only).map(name => rows[0][name]);
  const told = chart.by.filter(name => !["line", "point", "kind"].includes(name))
    .map(name => `${GROUPS[name] ?? ""} ${datum[name]}`.trim());
  const what = [...new Set([...shared, ...told])].join(", ");
  const words = new Set(rows.flatMap(row => row.words.split("; ").filter(Boolean)));
  const said = [["median", written(datum.value)],
    ["middle half", `${written(datum.q1 ?? null)} to ${written(datum.q3 ?? null)}`],
    ["of", `${rows.length} configurations`], ["values are", rows[0].kind],
    ["source", [...new Set(rows.map(row => row.source).filter(Boolean))].join("; ") || MISSING],
    ["marks and reasons", [...words].sort().join("; ") || "none"]];
  if (datum.phase) said.unshift(["phase", datum.phase]);
  if (datum.net !== undefined) said.splice(1, 0, ["net of idle, median", written(datum.net)]);
  return {what: what || datum.series, rows, said: said.filter(([, value]) => !value.startsWith(MISSING))};
}

function told(id, datum) {
  const chart = page.charts[id];
  if (datum.first === undefined)
    return {what: datum.told ?? datum.series ?? "", rows: [], said: [], query: chart.query};
  if (datum.first === datum.last && !datum.phase) return toldRow(all[datum.first]);
  const shown = drawn.get(id).rows;
  const rows = shown.filter(row => chart.needs.every(name => row[name] !== null) &&
    chart.by.every(name => name === "phase" || String(row[name]) === String(datum[name])));
  return toldGroup(chart, datum, rows.length ? rows : [all[datum.first]]);
}

function card({what, rows, said, query}) {
  const list = made("dl", null, {class: "said"});
  for (const [name, value] of said) list.append(made("dt", name), made("dd", value, {dir: "auto"}));
  const parts = [made("p", what, {class: "what", dir: "auto"}), list];
  if (rows.length || query) parts.push(made("code", rows.length ? command(rows) : query, {class: "command"}));
  return parts;
}

// ---- hover and choice ---------------------------------------------------------------------
const hover = find("#hover"), pinned = find("#pinned");

function hovered(id, event, datum) {
  hover.hidden = !datum;
  if (!datum) return;
  hover.replaceChildren(...card(told(id, datum)));
  const {width, height} = hover.getBoundingClientRect();
  const x = Math.min(event.clientX + 16, innerWidth - width - 8);
  const y = event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18;
  Object.assign(hover.style, {left: `${Math.max(8, x)}px`, top: `${Math.max(8, y)}px`});
}

function pin(said, from) {
  const copy = made("button", "Copy the query", {type: "button"});
  const close = made("button", "Close", {type: "button"});
  const ends = made("div", null, {class: "ends"});
  ends.append(...said.rows.length ? [copy] : [], close);
  pinned.replaceChildren(...card(said), ends);
  hover.hidden = true;
  pinned.hidden = false;
  copy.onclick = async () => {
    try {
      await navigator.clipboard.writeText(command(said.rows));
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(find("code", pinned));
      copy.textContent = "Selected: copy it with the keyboard";
    }
  };
  close.onclick = () => { pinned.hidden = true; from?.focus?.(); };
}
document.addEventListener("keydown", event => {
  if (event.key !== "Escape") return;
  pinned.hidden = hover.hidden = true;
  for (const open of document.querySelectorAll(".pick[open]")) open.open = false;
});

// ---- charts -------------------------------------------------------------------------------
async function drawnAs(figure, id) {
  const chart = page.charts[id], place = find(".chart", figure);
  const most = Math.max(90, place.clientWidth * 0.36);
  for (const axis of chart.spec.axes ?? [])
    if (axis.scale === "y" && axis.labels !== false) axis.labelLimit = Math.min(axis.labelLimit ?? 190, most);
  const {view} = await vegaEmbed(place, chart.spec, {
    mode: "vega", renderer: "svg", actions: false, defaultStyle: false, logLevel: ERRORS,
    ast: true,  // expressions are interpreted: the content policy allows no eval
    tooltip: (_, event, item, value) => hovered(id, event, value ? item.datum : null),
  });
  view.addEventListener("click", (_, item) => {
    if (item?.datum?.first !== undefined) pin(told(id, item.datum));
  });
  const one = {view, figure, rows: [], place};
  drawn.set(id, one);
  new ResizeObserver(() => fitted(one)).observe(place);
  const numbers = find(".numbers", figure);
  numbers?.addEventListener("toggle", () => listed(id, matchMedia("print").matches ? MOST_PRINTED : MOST_LISTED));
  return one;
}

function entry(text, colour) {
  const item = made("li");
  if (colour) item.append(made("span", null, {class: "swatch"}));
  if (colour) item.firstChild.style.background = colour;
  item.append(made("span", text, {dir: "auto"}));
  return item;
}

function series(view) {
  let scale;
  try { scale = view.scale("color"); } catch { return []; }  // a chart of one colour
  const names = scale.domain?.() ?? [];
  if (typeof scale(names[0]) !== "string" || typeof names[0] !== "string") return [];
  return names.map(name => entry(name, scale(name)));
}

function legend(chart, {view, figure, rows}) {
  const kinds = chart.rows ? [] : KINDS.filter(kind => SIGNS[kind] && rows.some(row => row.kind === kind && row.j !== null));
  const entries = [...series(view), ...kinds.map(kind => entry(SIGNS[kind]))];
  find(".legend", figure)?.remove();
  if (!entries.length) return;
  const list = made("ul", null, {class: "legend"});
  list.append(...entries);
  find(".chart", figure).before(list);
}

function emptied({view, figure, place}) {
  const bare = !marks(view).length;
  place.hidden = bare;
  find(".empty", figure)?.remove();
  if (bare) place.after(made("p", "No row that the filters leave has this.", {class: "empty"}));
}

function fitted({view, place}) {
  const width = Math.floor(place.clientWidth);
  if (width > 0 && Math.abs(view.width() - width) > 1) view.width(width).runAsync();
}

async function redrawn(id, rows) {
  const chart = page.charts[id], one = drawn.get(id);
  const kind = KINDS.find(name => rows.some(row => row.kind === name && row.j !== null));
  one.rows = chart.rows ?? (chart.one_kind ? rows.filter(row => row.kind === kind) : rows);
  one.place.hidden = false;  // or it has no width
  await one.view.width(Math.floor(one.place.clientWidth) || 640).data("points", one.rows).runAsync();
  legend(chart, one);
  if (!chart.rows) emptied(one);
  const svg = find("svg", one.place);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Chart: ${find("h3", one.figure).textContent}`);
  if (!chart.rows) listed(id);
}

function marks(view) {
  const found = new Map();
  const walk = item => {
    if (item.datum?.first !== undefined && item.mark?.marktype !== "rule" && item.mark?.marktype !== "text"
        && item.mark?.marktype !== "line") found.set(JSON.stringify(item.datum), item.datum);
    for (const inner of item.items ?? []) walk(inner);
  };
  walk(view.scenegraph().root);
  return [...found.values()];
}

function listed(id, most = MOST_LISTED) {
  const {view, figure} = drawn.get(id), numbers = find(".numbers", figure);
  if (!numbers?.open) return;
  const table = made("table"), head = made("tr"), data = marks(view);
  for (const name of ["what", "value", "from", "to", "configurations", "values are", "query"])
    head.append(made("th", name, {scope: "col", class: ["what", "values are", "query"].includes(name) ? "" : "n"}));
  table.append(made("thead"), made("tbody"));
  table.tHead.append(head);
  for (const datum of data.slice(0, most)) {
    const said = told(id, datum), row = made("tr");
    const what = datum.first === datum.last && said.rows.length === 1
      ? `${said.what}, ${said.said[0][1]}, ${said.rows[0].workload}` : [said.what, datum.phase].filter(Boolean).join(", ");
    const ask = made("button", "Show", {type: "button", "aria-label": `Show the query of ${what}`});
    ask.onclick = () => pin(said, ask);
    row.append(made("td", what, {dir: "auto"}));
    for (const value of [datum.value ?? datum.net, datum.low ?? datum.q1, datum.high ?? datum.q3, datum.rows])
      row.append(made("td", written(value), {class: "n"}));
    row.append(made("td", said.rows[0]?.kind ?? ""), made("td"));
    row.lastChild.append(ask);
    table.tBodies[0].append(row);
  }
  const note = data.length > most
    ? [made("p", `The first ${most} of ${data.length}; the list below has every configuration.`, {class: "note"})] : [];
  find(".scroll", numbers).replaceChildren(table, ...note);
}

// ---- filters ------------------------------------------------------------------------------
const chosen = Object.fromEntries(FILTERS.map(([name]) => [name, null]));
let colour = page.colour;

function picker(name, title, names, initial) {
  const details = made("details", null, {class: "pick"}), summary = made("summary");
  const shown = made("b"), box = made("div", null, {role: "group", "aria-label": title});
  summary.append(`${title}: `, shown);
  details.append(summary, box);
  const labels = names.map(value => {
    const label = made("label"), input = made("input", null, {type: "checkbox"});
    input.checked = !initial || initial.has(value);
    label.append(input, made("span", value || MISSING, {dir: "auto"}));
    return {value, input, label};
  });
  const apply = () => {
    const on = labels.filter(one => one.input.checked);
    chosen[name] = on.length === labels.length ? null : new Set(on.map(one => one.value));
    shown.textContent = on.length === labels.length ? "all" : on.length === 1 ? on[0].value || MISSING
      : `${on.length} of ${labels.length}`;
  };
  const ends = made("div", null, {class: "ends"});
  for (const [text, value] of [["All", true], ["None", false]]) {
    const button = made("button", text, {type: "button"});
    button.onclick = () => { for (const one of labels) if (!one.label.hidden) one.input.checked = value; apply(); show(); };
    ends.append(button);
  }
  if (labels.length > 12) {
    const search = made("input", null, {type: "search", placeholder: `Search ${labels.length}`, "aria-label": `Search ${title}`});
    search.oninput = () => { for (const one of labels) one.label.hidden = !String(one.value).toLowerCase().includes(search.value.toLowerCase()); };
    box.append(search);
  }
  box.append(ends, ...labels.map(one => one.label));
  details.addEventListener("change", event => { if (event.target.type === "checkbox") { apply(); show(); } });
  details.addEventListener("toggle", () => {
    if (details.open) for (const other of document.querySelectorAll(".pick[open]")) if (other !== details) other.open = false;
  });
  apply();
  return details;
}

function filters(form) {
  for (const [name, title] of FILTERS) {
    const names = counted(all, name).map(([value]) => value);
    if (names.length < 2) continue;
    if (name === "kind") names.sort((a, b) => KINDS.indexOf(a) - KINDS.indexOf(b));
    const first = name === "kind" ? new Set([page.kind]) : null;
    form.append(picker(name, title, names, first));
  }
  const label = made("label", "Colour "), select = made("select");
  for (const name of ["board", "model", "engine", "precision", "decoding", "source"]) {
    if (name === "source" && !all.some(row => row.source)) continue;
    const option = made("option", name, {value: name});
    option.selected = name === colour;
    select.append(option);
  }
  select.onchange = () => { colour = select.value; show(); };
  label.append(select);
  form.append(label, made("output", "", {"aria-live": "polite"}));
  form.onsubmit = event => event.preventDefault();
  document.addEventListener("click", event => {
    for (const open of document.querySelectorAll(".pick[open]")) if (!open.contains(event.target)) open.open = false;
  });
}

// ---- every configuration ------------------------------------------------------------------
const COLUMNS = [["model", "model"], ["board", "board"], ["engine", "engine"], ["precision", "precision"],
  ["workload", "workload"], ["j", "J/token"], ["hw", "± 95 %"], ["net", "net J/token"], ["tps", "tokens/s"],
  ["ttft", "TTFT ms"], ["itl", "ITL ms"], ["n", "n"], ["kind", "values are"], ["words", "marks and reasons"]];
const NUMBERS = new Set(["j", "hw", "net", "tps", "ttft", "itl", "n"]);
let current = [], sorted = ["i", 1], from = 0;

function heading() {
  const row = made("tr");
  for (const [name, title] of COLUMNS) {
    const cell = made("th", null, {scope: "col", class: NUMBERS.has(name) ? "n" : ""});
    const button = made("button", title, {type: "button"});
    if (sorted[0] === name) cell.setAttribute("aria-sort", sorted[1] > 0 ? "ascending" : "descending");
    button.onclick = () => { sorted = [name, sorted[0] === name ? -sorted[1] : 1]; from = 0; rowsShown(); };
    cell.append(button);
    row.append(cell);
  }
  const head = made("thead");
  head.append(row);
  return head;
}

function rowsShown() {
  const [name, way] = sorted, order = [...current].sort((a, b) => {
    if (a[name] === null || b[name] === null) return (a[name] === null) - (b[name] === null);
    return way * (a[name] < b[name] ? -1 : a[name] > b[name] ? 1 : a.i - b.i);
  });
  from = Math.max(0, Math.min(from, order.length - 1));
  const body = made("tbody");
  for (const row of order.slice(from, from + PAGE)) {
    const line = made("tr", null, {tabindex: "0"});
    for (const [column] of COLUMNS) {
      const scale = ["ttft", "itl"].includes(column) && row[column] !== null ? 1000 : 1;
      const value = NUMBERS.has(column) ? written(row[column] === null ? null : row[column] * scale, column === "hw" ? 2 : 4)
        : row[column] || MISSING;
      const guess = column === "j" && row.kind === "estimated" ? "~" : "";
      line.append(made("td", guess + value, {dir: "auto", class: (NUMBERS.has(column) ? "n" : "")
        + (row.kind !== "measured" && ["j", "hw", "net", "kind"].includes(column) ? " not-measured" : "")}));
    }
    line.onclick = () => pin(toldRow(row), line);
    line.onkeydown = event => { if (event.key === "Enter") pin(toldRow(row), line); };
    body.append(line);
  }
  find("#all").replaceChildren(heading(), body);
  const to = Math.min(from + PAGE, order.length);
  find("#where").textContent = order.length ? `${from + 1} to ${to} of ${order.length}` : "no rows";
  find("#before").disabled = from === 0;
  find("#next").disabled = to >= order.length;
}

function csv() {
  const cell = value => {
    const text = value === null ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const names = Object.keys(all[0]);
  const text = [names, ...current.map(row => names.map(name => row[name]))].map(row => row.map(cell).join(",")).join("\n");
  const link = made("a", null, {href: URL.createObjectURL(new Blob([text], {type: "text/csv"})), download: "report.csv"});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// ---- on paper -----------------------------------------------------------------------------
function printed(open) {
  for (const numbers of document.querySelectorAll("details.numbers")) {
    if (open) numbers.dataset.was = String(numbers.open);
    numbers.open = open || numbers.dataset.was === "true";
    listed(numbers.closest("figure").dataset.chart, open ? MOST_PRINTED : MOST_LISTED);
  }
}
addEventListener("beforeprint", () => printed(true));
addEventListener("afterprint", () => printed(false));

// ---- all of it ----------------------------------------------------------------------------
async function show() {
  current = all.filter(row => FILTERS.every(([name]) => !chosen[name] || chosen[name].has(row[name])));
  find("#filters output").textContent = `${current.length} of ${all.length} configurations`;
  from = 0;
  rowsShown();
  const rows = grouped(current, colour);
  for (const id of drawn.keys()) if (!page.charts[id].rows) await redrawn(id, rows);
  document.documentElement.dataset.shown = String(current.length);
}

const all = await unpacked(find("#points").textContent);
for (const figure of document.querySelectorAll("figure[data-chart]")) await drawnAs(figure, figure.dataset.chart);
for (const id of drawn.keys()) if (page.charts[id].rows) await redrawn(id, []);
if (all.length) {
  filters(find("#filters"));
  find("#before").onclick = () => { from -= PAGE; rowsShown(); };
  find("#next").onclick = () => { from += PAGE; rowsShown(); };
  find("#csv").onclick = csv;
  await show();
}
})();

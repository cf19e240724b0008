const packed = Uint8Array.from(atob("{{ library() }}"), (letter) => letter.charCodeAt(0));
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const code = new Blob([await new Response(unpacked).text()], {type: "text/javascript"});
const address = URL.createObjectURL(code);
const {default: DataTable} = await import(address);
URL.revokeObjectURL(address);
const layout = {topStart: "search", topEnd: null, bottomStart: null, bottomEnd: null};
for (const table of document.querySelectorAll("table.long")) {
  const search = `Search in ${table.closest(".scroll").getAttribute("aria-label")}`;
  new DataTable(table, {paging: false, order: [], autoWidth: false, layout,
    language: {search: "", searchPlaceholder: "Search", zeroRecords: "No such row"}});
  table.closest(".scroll").querySelector("input").setAttribute("aria-label", search);
}

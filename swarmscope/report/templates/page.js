"use strict";
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  // Two palettes for the stages, both readable on their paper; arms take their colour from the style sheet.
  const light = { entry: "#b9c2cc", "tx-socket": "#7f8fa3", "ip-out": "#4c78a8", qdisc: "#9ecae9", veth: "#f2a35e", bridge: "#e4685d",
    netfilter: "#b279a2", "vxlan-encap": "#d6517d", "nic-tx": "#54a24b", wire: "#c9b37c", "nic-rx": "#88d27a", gro: "#439894",
    "ip-in": "#83bcb6", "vxlan-decap": "#9d5bb5", "rx-socket": "#6b7b8c", skb: "#bab0ac", other: "#d8d2cf" };
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  const css = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  function colour(value) {
    if (Array.isArray(value)) return value.map(colour);
    if (typeof value !== "string") return value;
    if (value.startsWith("stage:")) return light[value.slice(6)] || light.other;
    return value === "base" || value === "subj" || value === "rest" ? css(value) : value;
  }
  function painted(node) {
    if (Array.isArray(node)) return node.map(painted);
    if (node === null || typeof node !== "object") return node;
    const copy = {};
    for (const [key, value] of Object.entries(node)) {
      copy[key] = key === "color" || key === "colors" ? colour(value) : painted(value);
    }
    return copy;
  }
  function layout(own) {
    const axis = { gridcolor: css("line"), linecolor: css("line"), zerolinecolor: css("line"), tickcolor: css("line") };
    const base = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 64, r: 16, t: 16, b: 52 },
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: css("ink") },
      uniformtext: { minsize: 10, mode: "hide" }, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" }, hoverlabel: { namelength: -1 } };
    const merged = Object.assign({}, base, painted(own));
    const axes = Object.keys(merged).filter(name => /^[xy]axis[0-9]*$/.test(name));
    for (const name of new Set(["xaxis", "yaxis", ...axes])) {
      const title = merged[name] && merged[name].title;
      merged[name] = Object.assign({}, axis, merged[name], { title: Object.assign({ font: { size: 12.5 } }, title) });
    }
    merged.legend = Object.assign({}, base.legend, merged.legend);
    if (merged.shapes) merged.shapes = merged.shapes.map(s => Object.assign({}, s, { line: Object.assign({ color: css("dim") }, s.line) }));
    return merged;
  }
  function draw() {
    for (const [id, figure] of Object.entries(figures)) {
      const place = document.getElementById("chart-" + id);
      if (place) Plotly.react(place, painted(figure.data), layout(figure.layout), { displaylogo: false, responsive: true, displayModeBar: false });
    }
    document.documentElement.dataset.drawn = Object.keys(figures).length;
  }
  draw();
  media.addEventListener("change", draw);
})();

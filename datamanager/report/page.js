"use strict";
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const texts = data.texts;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;

  // ---- the table of models ----

  function sortBy(table, column, button) {
    const head = button.parentElement;
    const descending = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const numbers = head.classList.contains("number");
    const key = row => row.children[column].dataset.key;
    const order = (a, b) => numbers ? key(a) - key(b) : key(a).localeCompare(key(b));
    const rows = [...table.tBodies[0].rows].sort((a, b) => descending ? order(b, a) : order(a, b));
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sortBy(table, column, button));
      head.replaceChildren(button);
    });
  }

  // ---- plots ----

  async function unpacked(packed) {
    const bytes = Uint8Array.from(atob(packed), sign => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  // Plotly reads a little markup, TeX and templates in names; ours are only text.
  const plain = text => text.replace(/[&<>$%]/g, sign => `&#${sign.charCodeAt(0)};`);
  const narrow = () => innerWidth < 600;
  const short = text => {
    const signs = [...text], most = narrow() ? 20 : 28;
    return signs.length > most ? signs.slice(0, most - 1).join("") + "…" : text;
  };

  const COLOURS = ["#2f6fdb", "#e07b39", "#2a9d6f", "#c2418a", "#7a5cc9", "#b8921f", "#1f9bb0",
    "#d14b4b", "#6b8e23", "#8d6e63", "#5e7ce0", "#a35bb5", "#708090"];
  const NEUTRAL = "#8a94a3";
  const colour = number => COLOURS[number % COLOURS.length];
  const colours = new Map(data.series.map((series, number) => [series.name, colour(number)]));

  function bars(key, total) {
    return data.series.map((series, number) => ({
      type: "bar", name: plain(short(series.name)), x: data.x, y: total(series),
      width: data.widths, offset: 0, marker: {color: colour(number), line: {width: 0}},
      hovertemplate: `${plain(series.name)}<br>%{x}<br>${plain(texts[key])}: %{y:,}<extra></extra>`,
    }));
  }

  const sum = (a, b) => a.map((value, at) => value + b[at]);
  const all = values => values.reduce((a, b) => a + b, 0);

  function pies() {
    const of = [["cost", series => all(series.cost)],
      ["tokens", series => all(series.input) + all(series.output)]];
    return of.map(([key, total], number) => ({
      type: "pie", hole: .55, sort: false,
      domain: narrow() ? {column: 0, row: number} : {column: number, row: 0},
      labels: data.series.map(series => plain(short(series.name))),
      values: data.series.map(total), title: {text: plain(texts[key])},
      marker: {colors: data.series.map((_, at) => colour(at))},
      textinfo: "percent", textposition: "inside", insidetextorientation: "horizontal",
      hovertemplate: "%{label}<br>%{value:,}<br>%{percent}<extra></extra>",
    }));
  }

  function shares() {
    return data.series.filter(series => all(series.input) > 0).map(series => ({
      type: "scatter", mode: "lines+markers", name: plain(short(series.name)), x: data.x,
      y: series.input.map((tokens, at) => tokens ? series.hits[at] / tokens : null),
      connectgaps: true, marker: {size: 4, color: colours.get(series.name)},
      hovertemplate: "%{fullData.name}<br>%{x}<br>%{y:.1%}<extra></extra>",
    }));
  }

  // The higher a percentile, the more it stands out.
  const SHADES = {
    light: {duration: ["#9dbcf0", "#2f6fdb", "#173e82"], first_token: ["#f4c7a3", "#e07b39", "#8a4213"]},
    dark: {duration: ["#2c528f", "#5b8def", "#b9d0fb"], first_token: ["#8a4a1f", "#e07b39", "#f6cfae"]},
  };

  function latency(isDark) {
    const shades = structuredClone(SHADES[isDark ? "dark" : "light"]);
    const models = data.latency.models.map(name => plain(short(name)));
    return data.latency.ranks.filter(rank => rank.seconds.some(value => value !== null)).map(rank => ({
      type: "bar", name: plain(rank.name), x: models, y: rank.seconds,
      marker: {color: shades[rank.kind].shift()},
      hovertemplate: `%{x}<br>${plain(rank.name)}: %{y:,.3f} ${plain(texts.seconds)}<extra></extra>`,
    }));
  }

  function strips() {
    return data.strips.map((strip, number) => ({
      type: "bar", orientation: "h", showlegend: false, name: plain(short(strip.name)),
      y: strip.spans.map(() => number), base: strip.spans.map(span => span[0]),
      x: strip.spans.map(span => Date.parse(span[1] + "Z") - Date.parse(span[0] + "Z")),
      customdata: strip.spans, marker: {color: colours.get(strip.name) ?? NEUTRAL}, width: .6,
      hovertemplate: "%{customdata[0]}<br>%{customdata[1]}<extra>%{fullData.name}</extra>",
    }));
  }

  function heat(isDark) {
    return data.heat.length === 0 ? [] : [{
      type: "heatmap", z: data.heat, x: [...Array(24).keys()], y: data.weekdays,
      colorscale: isDark ? [[0, "#1b2129"], [1, "#7aa7ff"]] : [[0, "#f1f5fb"], [1, "#1d4fb8"]],
      xgap: 1, ygap: 1, colorbar: {thickness: 10},
      hovertemplate: `%{y} %{x}:00<br>${plain(texts.tokens)}: %{z:,}<extra></extra>`,
    }];
  }

  // A legend stands below its plot and takes the height that its lines need.
  function withLegend(count, layout) {
    const lines = Math.ceil(count / (narrow() ? 1 : printing ? 2 : 4));
    const legend = {orientation: "h", yref: "container", y: 0, yanchor: "bottom", traceorder: "normal"};
    return {height: 285 + 19 * lines, margin: {l: 55, r: 15, t: 10, b: 15}, legend, showlegend: true, ...layout};
  }

  function layouts() {
    const names = data.strips.map(strip => plain(short(strip.name)));
    const models = data.series.length;
    const dates = {type: "date", range: data.window, nticks: narrow() ? 4 : 10, tickangle: 0, automargin: true};
    const pies = narrow() ? {rows: 2, columns: 1} : {rows: 1, columns: 2};
    return {
      cost_over_time: withLegend(models, {barmode: "stack", xaxis: dates}),
      tokens_over_time: withLegend(models, {barmode: "stack", xaxis: dates}),
      share: {
        ...withLegend(models, {grid: pies, uniformtext: {minsize: 10, mode: "hide"}}),
        ...(narrow() ? {height: 520 + 19 * models} : {}),
      },
      hit_share_over_time: withLegend(models, {
        xaxis: dates, yaxis: {tickformat: ".0%", rangemode: "tozero"},
      }),
      latency: withLegend(data.latency.ranks.length, {
        barmode: "group", xaxis: {automargin: true, showgrid: false},
        yaxis: {rangemode: "tozero", automargin: true, title: {text: plain(texts.seconds)}},
      }),
      strips: {
        xaxis: dates, height: 90 + 26 * names.length, barmode: "overlay",
        yaxis: {tickvals: names.map((_, at) => at), ticktext: names, autorange: "reversed",
          automargin: true, fixedrange: true, showgrid: false, ticklen: 6, tickcolor: "transparent"},
      },
      heat: {
        height: 300, xaxis: {dtick: 3, fixedrange: true, showgrid: false, ticks: ""},
        yaxis: {autorange: "reversed", fixedrange: true, automargin: true, showgrid: false, ticks: ""},
      },
    };
  }

  const traces = isDark => ({
    cost_over_time: bars("cost", series => series.cost),
    tokens_over_time: bars("tokens", series => sum(series.input, series.output)),
    share: pies(),
    hit_share_over_time: shares(),
    latency: latency(isDark),
    strips: strips(),
    heat: heat(isDark),
  });

  function themed(layout, isDark) {
    const line = isDark ? "#323b47" : "#d9dee6";
    const axis = {gridcolor: line, linecolor: line, zerolinecolor: line};
    return {
      height: 340, margin: {l: 55, r: 15, t: 10, b: 40}, ...layout,
      xaxis: {...axis, ...layout.xaxis}, yaxis: {...axis, ...layout.yaxis},
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: {color: isDark ? "#e6e9ee" : "#1c2430", family: getComputedStyle(document.body).fontFamily},
      hoverlabel: {align: "left", namelength: -1},
      modebar: {bgcolor: "rgba(0,0,0,0)", color: "#8a94a3", activecolor: isDark ? "#e6e9ee" : "#1c2430"},
      ...(printing ? {width: PAPER} : {autosize: true}),
    };
  }

  const PAPER = 680;  // pixels between the margins of A4 and of Letter

  // Named one by one: of what a plotly of later adds, something may send the data away.
  const ZOOM = ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"];

  function configuration(name) {
    const fixed = name === "share" || name === "heat";
    return {
      displaylogo: false, responsive: !printing, locale: document.documentElement.lang,
      plotlyServerURL: "", modeBarButtons: [["toImage"], ...(fixed ? [] : [ZOOM])],
      ...(matchMedia("(hover: none)").matches ? {displayModeBar: false} : {}),  // it would lie on the plot
    };
  }

  // All at once, so that a print that begins sees every plot as it is on paper.
  async function draw() {
    const isDark = dark.matches && !printing;
    const all = traces(isDark);
    await Promise.all(Object.entries(layouts()).map(([name, layout]) => {
      const place = document.getElementById(name);
      const empty = all[name].length === 0 || data.series.length === 0;
      place.parentElement.hidden = empty;
      return empty || Plotly.react(place, all[name], themed(layout, isDark), configuration(name));
    }));
    document.documentElement.dataset.drawn = isDark ? "dark" : "light";
  }

  const CHINESE = {
    moduleType: "locale", name: "zh-CN",
    dictionary: {
      "Autoscale": "自动缩放", "Download plot as a PNG": "下载为 PNG 图片",
      "Download plot as a png": "下载为 PNG 图片", "Pan": "平移",
      "Reset axes": "重置坐标轴", "Zoom": "缩放", "Zoom in": "放大", "Zoom out": "缩小",
      "Double-click to zoom back out": "双击缩小",
      "Double-click on legend to isolate one trace": "双击图例只看一项",
    },
    format: {
      days: ["星期日", "星期一", "星期二", "星期三", "星期四", "星期五", "星期六"],
      shortDays: ["周日", "周一", "周二", "周三", "周四", "周五", "周六"],
      months: [...Array(12).keys()].map(month => `${month + 1}月`),
      shortMonths: [...Array(12).keys()].map(month => `${month + 1}月`),
      date: "%Y-%m-%d", year: "%Y年", month: "%Y年%-m月", dayMonth: "%-m月%-d日",
      dayMonthYear: "%Y年%-m月%-d日",
    },
  };

  const library = document.createElement("script");
  library.textContent = await unpacked(document.getElementById("plotly").textContent);
  document.head.append(library);
  Plotly.register(CHINESE);
  await draw();
  dark.addEventListener("change", draw);
  addEventListener("beforeprint", () => { printing = true; draw(); });
  addEventListener("afterprint", () => { printing = false; draw(); });
})();

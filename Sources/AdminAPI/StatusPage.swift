/// The page at `/`: one document without outside resources, which shows what `/status.json` says.
enum StatusPage {
  /// - Parameter nonce: what the content security policy names; only the style and the script that carry it are obeyed.
  static func html(nonce: String) -> String {
    template.replacing("{nonce}", with: nonce)
  }

  private static let template = #"""
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>rodpod</title>
    <style nonce="{nonce}">
    :root { --page: #f9f9f7; --card: #fcfcfb; --ink: #0b0b0b; --soft: #52514e; --line: #e1e0d9; --model: #2a78d6; --other: #eb6834;
      --good: #006300; --bad: #b3261e; }
    @media (prefers-color-scheme: dark) {
      :root { --page: #0d0d0d; --card: #1a1a19; --ink: #fff; --soft: #c3c2b7; --line: #2c2c2a; --model: #3987e5; --other: #d95926;
        --good: #0ca30c; --bad: #f2726b; }
    }
    * { box-sizing: border-box; }
    body { margin: 0; padding: 1rem; background: var(--page); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
    main { max-width: 70rem; margin: 0 auto; }
    header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; }
    h1 { font-size: 1.4rem; margin: 0; }
    h2 { font-size: .95rem; margin: 0 0 .5rem; font-weight: 600; }
    section, .tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
    .tiles, .charts { display: grid; gap: .75rem; margin-top: .75rem; }
    .tiles { grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
    .charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
    .tile span { display: block; color: var(--soft); font-size: .85rem; }
    .tile b { font-size: 1.5rem; font-weight: 600; }
    .soft { color: var(--soft); }
    .good { color: var(--good); } .bad { color: var(--bad); }
    svg { display: block; width: 100%; height: 10rem; }
    svg text { fill: var(--soft); font-size: 11px; }
    svg .grid { stroke: var(--line); }
    svg path { fill: none; stroke-width: 2; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
    .model { stroke: var(--model); } .other { stroke: var(--other); }
    .legend { display: flex; gap: 1rem; font-size: .85rem; color: var(--soft); margin: 0; padding: 0; list-style: none; }
    .legend i { display: inline-block; width: .9rem; height: 3px; margin-right: .4rem; vertical-align: middle; }
    .legend .model { background: var(--model); } .legend .other { background: var(--other); }
    table { border-collapse: collapse; width: 100%; }
    td { padding: .2rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
    td:last-child { text-align: right; }
    b, td:last-child { font-variant-numeric: tabular-nums; }
    form { margin-top: .75rem; } input, button { font: inherit; }
    [hidden] { display: none; }
    </style>
    </head>
    <body>
    <main>
    <header><h1>rodpod</h1><span id="state" role="status" class="soft">connecting</span><span id="version" class="soft"></span></header>
    <form id="login" hidden><label>Token <input id="token" type="password" autocomplete="off"></label> <button>Open</button></form>
    <div class="tiles" id="tiles"></div>
    <div class="charts">
    <section><h2 id="ndcg-title">NDCG</h2>
      <ul class="legend"><li><i class="model"></i>rodpod</li><li><i class="other"></i>recent popularity</li></ul>
      <svg id="ndcg" role="img" aria-labelledby="ndcg-title"></svg></section>
    <section><h2 id="hr-title">HR</h2>
      <ul class="legend"><li><i class="model"></i>rodpod</li><li><i class="other"></i>recent popularity</li></ul>
      <svg id="hr" role="img" aria-labelledby="hr-title"></svg></section>
    <section><h2 id="loss-title">Loss</h2><svg id="loss" role="img" aria-labelledby="loss-title"></svg></section>
    <section><h2 id="rate-title">Events per second</h2><svg id="rate" role="img" aria-labelledby="rate-title"></svg></section>
    <section><h2>Dead letters by reason</h2><table><tbody id="letters"></tbody></table></section>
    </div>
    <noscript><p>This page needs JavaScript; the same figures are at <a href="status.json">status.json</a>.</p></noscript>
    </main>
    <script nonce="{nonce}">
    "use strict";
    const $ = id => document.getElementById(id);
    const isNumber = value => typeof value === "number" && isFinite(value);
    const digits = (value, places) => isNumber(value)
      ? value.toLocaleString("en", { maximumFractionDigits: places, minimumFractionDigits: places }) : "–";
    const short = value => !isNumber(value) ? "–" : value !== 0 && Math.abs(value) < 10 ? digits(value, 3) : digits(value, 0);
    const duration = seconds => seconds < 120 ? Math.round(seconds) + " s" : seconds < 7200 ? Math.round(seconds / 60) + " min"
      : Math.round(seconds / 3600) + " h";

    function element(name, attributes, text) {
      const node = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const key in attributes) node.setAttribute(key, attributes[key]);
      if (text !== undefined) node.textContent = text;
      return node;
    }

    // series: [{ cls, values }], one value for each time, null where there is none.
    function draw(svg, times, series) {
      const width = svg.clientWidth || 320, height = svg.clientHeight || 160, left = 44, bottom = 18, top = 8;
      const all = series.flatMap(line => line.values).filter(isNumber);
      svg.replaceChildren();
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      if (all.length < 2) {
        svg.append(element("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no figures yet"));
        return;
      }
      const low = Math.min(0, ...all), high = Math.max(...all) || 1, first = times[0], last = times[times.length - 1];
      const x = time => left + (width - left - 4) * (last > first ? (time - first) / (last - first) : 1);
      const y = value => top + (height - top - bottom) * (1 - (value - low) / (high - low));
      for (const value of [low, (low + high) / 2, high]) {
        svg.append(element("line", { class: "grid", x1: left, x2: width, y1: y(value), y2: y(value) }));
        svg.append(element("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)));
      }
      svg.append(element("text", { x: left, y: height - 3 }, duration((last - first) / 1000) + " ago"));
      svg.append(element("text", { x: width, y: height - 3, "text-anchor": "end" }, "now"));
      for (const line of series) {
        let path = "", open = false;
        line.values.forEach((value, index) => {
          if (isNumber(value)) path += (open ? "L" : "M") + x(times[index]).toFixed(1) + " " + y(value).toFixed(1);
          open = isNumber(value);
        });
        svg.append(element("path", { class: line.cls, d: path }));
      }
    }

    function tile(label, value) {
      const node = document.createElement("div"), name = document.createElement("span"), figure = document.createElement("b");
      node.className = "tile"; name.textContent = label; figure.textContent = value;
      node.append(name, figure);
      return node;
    }

    function show(status) {
      const now = status.now, quality = now.quality, at = quality ? "@" + quality.k : "";
      $("state").textContent = status.ready ? "ready" : "not ready: " + status.unready_reasons.join(", ");
      $("state").className = status.ready ? "good" : "bad";
      $("version").textContent = now.version + ", up " + duration(status.uptime_seconds);
      $("tiles").replaceChildren(
        tile("Events per second", short(status.events_per_second)), tile("Events", digits(now.events, 0)),
        tile("Lag", digits(now.lag, 0)),
        tile("Learning steps", digits(now.learning_steps, 0)), tile("Loss", digits(now.loss, 4)),
        tile("HR" + at, quality ? digits(quality.model.hit_rate, 4) : "–"),
        tile("NDCG" + at, quality ? digits(quality.model.ndcg, 4) : "–"),
        tile("Popularity’s NDCG" + at, quality ? digits(quality.popularity.ndcg, 4) : "–"),
        tile("Lists published", digits(now.lists_published, 0)), tile("Users to rank", digits(now.stale_users, 0)));
      $("ndcg-title").textContent = "NDCG" + at + ", live";
      $("hr-title").textContent = "HR" + at + ", live";
      const times = status.history.map(point => Date.parse(point.time));
      const line = (cls, value) => ({ cls, values: status.history.map(value) });
      draw($("ndcg"), times, [line("other", p => p.popularity?.ndcg), line("model", p => p.model?.ndcg)]);
      draw($("hr"), times, [line("other", p => p.popularity?.hit_rate), line("model", p => p.model?.hit_rate)]);
      draw($("loss"), times, [line("model", p => p.loss)]);
      draw($("rate"), times, [line("model", p => p.events_per_second)]);
      const letters = Object.entries(now.dead_letters).sort((a, b) => b[1] - a[1]);
      $("letters").replaceChildren(...(letters.length ? letters : [["none", 0]]).map(([reason, count]) => {
        const row = document.createElement("tr"), name = document.createElement("td"), figure = document.createElement("td");
        name.textContent = reason; figure.textContent = digits(count, 0);
        row.append(name, figure);
        return row;
      }));
    }

    async function poll() {
      const token = sessionStorage.getItem("token");
      let wait = 2000;
      try {
        const answer = await fetch("status.json", { headers: token ? { authorization: "Bearer " + token } : {} });
        $("login").hidden = answer.status !== 401;
        if (answer.ok) show(await answer.json());
        else {
          $("state").textContent = answer.status === 401 ? "a token is needed" : "the daemon answers " + answer.status;
          $("state").className = "bad";
          if (answer.status === 401) return;
        }
      } catch {
        $("state").textContent = "the daemon does not answer";
        $("state").className = "bad";
        wait = 5000;
      }
      setTimeout(poll, wait);
    }

    $("login").addEventListener("submit", event => {
      event.preventDefault();
      sessionStorage.setItem("token", $("token").value);
      $("token").value = "";
      poll();
    });
    poll();
    </script>
    </body>
    </html>
    """#
}

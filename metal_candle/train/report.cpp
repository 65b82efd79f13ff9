// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See report.h.
#include "metal_candle/train/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "metal_candle/train/chart.h"

namespace metal_candle {
namespace {

constexpr const char* kStyle = R"css(
:root{color-scheme:light dark;--page:#fbfaf8;--card:#fff;--ink:#1d1d1f;--muted:#6b6b70;--line:#e4e2dd;
--train:#2563b8;--val:#c4560d;--rate:#6b4fa8;--speed:#1b7f5c;--norm:#8a6d1d}
@media(prefers-color-scheme:dark){:root{--page:#161618;--card:#1e1e21;--ink:#ececee;--muted:#9a9aa1;
--line:#313136;--train:#74a8f0;--val:#f09a55;--rate:#b39ee6;--speed:#63c9a0;--norm:#d6b95c}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 56px}
h1{font-size:26px;line-height:1.25;margin:0;font-weight:650;letter-spacing:-.01em}
h2{font-size:17px;margin:40px 0 12px;font-weight:650}
.subtitle{color:var(--muted);margin:6px 0 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:28px 0 12px}
.tile,figure{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tile{padding:14px 16px}
.tile span{display:block;color:var(--muted);font-size:13px}
.tile b{display:block;font-size:22px;font-weight:620;line-height:1.35;font-variant-numeric:tabular-nums}
.tile small{color:var(--muted);font-size:13px;font-variant-numeric:tabular-nums}
figure{margin:0;padding:14px 16px 8px;min-width:0;overflow-x:auto}
main>figure svg{min-width:600px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:12px;margin-top:12px}
figcaption{display:flex;flex-wrap:wrap;gap:2px 16px;align-items:baseline;font-size:14px;min-height:24px}
figcaption output{margin-left:auto;color:var(--muted);font-size:13px;font-variant-numeric:tabular-nums}
.key{color:var(--muted);font-size:13px}
.key::before{content:"";display:inline-block;width:14px;height:3px;border-radius:2px;background:var(--c);
margin-right:6px;vertical-align:middle}
svg{display:block;width:100%;height:auto}
svg text{font-size:12px;fill:var(--muted);font-variant-numeric:tabular-nums}
svg .grid{stroke:var(--line)}
svg .cursor{stroke:var(--muted);stroke-dasharray:3 3}
svg path{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
svg circle{fill:var(--c);stroke:var(--card);stroke-width:1.2}
svg .faint{opacity:.32}
svg .faint path{stroke-width:1.2}
.train{--c:var(--train)}.val{--c:var(--val)}.rate{--c:var(--rate)}.speed{--c:var(--speed)}.norm{--c:var(--norm)}
.none{color:var(--muted);margin:8px 0}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:7px 16px 7px 0;border-bottom:1px solid var(--line)}
th{color:var(--muted);font-weight:500}
td{overflow-wrap:anywhere;white-space:pre-wrap}
table.settings th{width:220px;white-space:nowrap}
footer{margin-top:40px;color:var(--muted);font-size:13px}
)css";

// Shows the values under the pointer. Points are read back from the paths.
constexpr const char* kScript = R"js(
for(const svg of document.querySelectorAll("svg[data-axes]")){
const [x0,x1,px0,px1,y0,y1,py0,py1]=svg.dataset.axes.split(" ").map(Number);
const series=[...svg.querySelectorAll("g:not(.faint)")].map(g=>({name:g.dataset.name,
points:(g.querySelector("path").getAttribute("d").match(/[\d.]+ [\d.]+/g)||[]).map(p=>p.split(" ").map(Number))}));
const out=svg.parentNode.querySelector("output");
const cursor=document.createElementNS(svg.namespaceURI,"line");
cursor.setAttribute("class","cursor");cursor.setAttribute("y1",py1);cursor.setAttribute("y2",py0);
cursor.setAttribute("visibility","hidden");svg.append(cursor);
const show=v=>{const a=Math.abs(v);return a!==0&&a<1e-3?v.toExponential(2):v.toLocaleString("en",{maximumSignificantDigits:a<1e3?4:6})};
svg.addEventListener("pointermove",e=>{
const r=svg.getBoundingClientRect(),px=(e.clientX-r.left)*svg.viewBox.baseVal.width/r.width;
const near=series.map(s=>s.points.reduce((a,b)=>Math.abs(b[0]-px)<Math.abs(a[0]-px)?b:a));
const at=near.reduce((a,b)=>Math.abs(b[0]-px)<Math.abs(a[0]-px)?b:a)[0];
cursor.setAttribute("x1",at);cursor.setAttribute("x2",at);cursor.setAttribute("visibility","visible");
out.textContent="iteration "+Math.round(x0+(at-px0)/(px1-px0)*(x1-x0))+series.map((s,i)=>
Math.abs(near[i][0]-at)>8?"":" \u00b7 "+s.name+" "+show(y0+(near[i][1]-py0)/(py1-py0)*(y1-y0))).join("");});
svg.addEventListener("pointerleave",()=>{cursor.setAttribute("visibility","hidden");out.textContent="";});}
)js";

// From here on, the mean of the neighbours says more than each value.
constexpr std::size_t kSmoothedFrom = 40;

template <typename Report, typename Value>
std::vector<ChartPoint> points_of(const std::vector<Report>& reports, Value value) {
  std::vector<ChartPoint> points;
  points.reserve(reports.size());
  for (const Report& report : reports) {
    points.push_back({static_cast<double>(report.iteration), static_cast<double>(value(report))});
  }
  return points;
}

std::string with_commas(std::int64_t number) {
  std::string text = fmt::format("{}", number);
  for (auto i = static_cast<std::ptrdiff_t>(text.size()) - 3; i > 0; i -= 3) {
    text.insert(static_cast<std::size_t>(i), 1, ',');
  }
  return text;
}

std::string duration(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  return fmt::format("{}h {:02}m", whole / 3600, whole / 60 % 60);
}

std::string bytes_text(std::size_t bytes) {
  const auto value = static_cast<double>(bytes);
  return value < 1e9 ? fmt::format("{:.0f} MB", value / 1e6)
                     : fmt::format("{:.2f} GB", value / 1e9);
}

std::string tile(const char* name, const std::string& value, const std::string& note = "") {
  return fmt::format("<div class=\"tile\"><span>{}</span><b>{}</b><small>{}</small></div>", name,
                     escape_html(value), escape_html(note));
}

std::string render_tiles(const ReportData& data) {
  std::string html;
  if (!data.evaluations.empty()) {
    const EvaluationReport& first = data.evaluations.front();
    const EvaluationReport& last = data.evaluations.back();
    const bool several = data.evaluations.size() > 1;
    const auto before = [&](double value, int digits) {
      return several ? fmt::format("from {:.{}f}", value, digits) : std::string();
    };
    html += tile("Validation loss", fmt::format("{:.3f}", last.loss), before(first.loss, 3));
    html += tile("Perplexity", fmt::format("{:.2f}", last.perplexity), before(first.perplexity, 2));
  }
  if (!data.reports.empty()) {
    const TrainReport& last = data.reports.back();
    std::size_t peak = 0;
    for (const TrainReport& report : data.reports) peak = std::max(peak, report.peak_memory);
    html += tile("Training loss", fmt::format("{:.3f}", last.loss),
                 data.reports.size() > 1 ? fmt::format("from {:.3f}", data.reports.front().loss)
                                         : std::string());
    html += tile("Iterations", with_commas(last.iteration),
                 with_commas(last.trained_tokens) + " tokens");
    const double speed =
        last.seconds > 0 ? static_cast<double>(last.trained_tokens) / last.seconds : 0;
    html += tile("Training time", duration(last.seconds),
                 with_commas(std::llround(speed)) + " tokens/s");
    html += tile("Peak memory", bytes_text(peak));
  }
  return html.empty() ? "<p class=\"none\">Nothing has been trained yet.</p>"
                      : "<div class=\"tiles\">" + html + "</div>\n";
}

std::string render_loss(const ReportData& data) {
  Chart chart{.title = "Loss", .height = 340};
  const auto loss = [](const auto& report) { return report.loss; };
  ChartSeries training{"training", "train", points_of(data.reports, loss), false, false};
  if (training.points.size() >= kSmoothedFrom) {
    ChartSeries raw = training;
    raw.faint = true;
    chart.series.push_back(std::move(raw));
    training.points =
        smooth(training.points, std::max<std::size_t>(training.points.size() / 25, 5));
    training.name = "training, smoothed";
  }
  chart.series.push_back(std::move(training));
  const bool few = data.evaluations.size() <= 60;
  chart.series.push_back({"validation", "val", points_of(data.evaluations, loss), few, false});
  return render_chart(chart);
}

std::string render_small_charts(const std::vector<TrainReport>& reports) {
  const auto small = [&](const char* title, const char* name, const char* css_class, auto value) {
    return render_chart({.title = title,
                         .width = 330,
                         .height = 190,
                         .from_zero = true,
                         .series = {{name, css_class, points_of(reports, value), false, false}}});
  };
  std::string html = "<div class=\"charts\">";
  html += small("Learning rate", "rate", "rate",
                [](const TrainReport& report) { return report.learning_rate; });
  html += small("Tokens per second", "tokens/s", "speed",
                [](const TrainReport& report) { return report.tokens_per_second; });
  html += small("Gradient norm", "norm", "norm",
                [](const TrainReport& report) { return report.gradient_norm; });
  return html + "</div>\n";
}

std::string render_samples(const std::vector<ReportSample>& samples) {
  if (samples.empty()) return {};
  std::string html =
      "<h2>Samples</h2><div class=\"wide\"><table><tr><th>Prompt</th><th>Before</th>"
      "<th>After</th></tr>";
  for (const ReportSample& sample : samples) {
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td></tr>", escape_html(sample.prompt),
                        escape_html(sample.before), escape_html(sample.after));
  }
  return html + "</table></div>\n";
}

std::string render_settings(const Settings& settings) {
  if (settings.empty()) return {};
  std::string html = "<h2>Settings</h2><div class=\"wide\"><table class=\"settings\">";
  for (const auto& [name, value] : settings) {
    html += fmt::format("<tr><th>{}</th><td>{}</td></tr>", escape_html(name), escape_html(value));
  }
  return html + "</table></div>\n";
}

}  // namespace

std::string render_report(const ReportData& data) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<title>{}</title><style>{}</style></head><body><main>\n<h1>{}</h1>",
      escape_html(data.title), kStyle, escape_html(data.title));
  if (!data.subtitle.empty()) {
    html += fmt::format("<p class=\"subtitle\">{}</p>", escape_html(data.subtitle));
  }
  html += render_tiles(data) + render_loss(data) + render_small_charts(data.reports) +
          render_samples(data.samples) + render_settings(data.settings);
  html += fmt::format(
      "<footer>Written by metal-candle.</footer></main>\n<script>{}</script></body></html>\n",
      kScript);
  return html;
}

}  // namespace metal_candle

"""How the report of `tocsin backtest` looks: one style sheet for light and dark screens and for paper."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --page: #fff; --ink: #1f2328; --faint: #656d76; --rule: #d8dee4;
  --grid: #eaeef2; --value: #1f5fa8; --band: #b6d2ef; --anomaly: #d1242f; --label: #1a7f37;
  --score: #afb8c1; --level: #57606a; --row: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --ink: #e6edf3; --faint: #8d96a0;
  --rule: #30363d; --grid: #1c2128; --value: #6cb6ff; --band: #1d3b5c; --anomaly: #ff7b72;
  --label: #3fb950; --score: #4b535d; --level: #c9d1d9; --row: #161b22; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 24px 28px 64px; background: var(--page); color: var(--ink);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 36px 0 4px; overflow-wrap: anywhere; }
h3 { font-size: 14px; margin: 20px 0 0; color: var(--faint); font-weight: 600; }
a { color: var(--value); }
section { border-top: 1px solid var(--rule); margin-top: 32px; }
.note { color: var(--faint); margin: 0 0 10px; }
.scroll { overflow-x: auto; }
.contents { columns: 2 420px; padding-left: 18px; margin: 8px 0; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 6px 10px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; }
tr:first-child > th { color: var(--faint); font-size: 12px; vertical-align: bottom; line-height: 1.3; }
.numbers { width: auto; font-variant-numeric: tabular-nums; margin: 10px 0; }
.numbers td, .numbers tr:first-child th:not(:first-child) { text-align: right; }
.anomalies td { font-size: 13px; }
.anomalies .picture { width: 236px; padding: 4px 8px 4px 0; }
.anomalies .when { white-space: nowrap; font-variant-numeric: tabular-nums; }
.anomalies .score { font-variant-numeric: tabular-nums; }
.hit { color: var(--label); } .miss { color: var(--anomaly); }
.hit, .miss { font-size: 12px; white-space: nowrap; }
figure { margin: 8px 0 4px; }
figure { overflow-x: auto; }
figure > svg { min-width: 760px; }
.anomalies { min-width: 820px; }
svg { display: block; width: 100%; height: auto; }
figcaption { display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 2px 0 8px 62px; color: var(--faint);
  font-size: 12px; }
figcaption i { display: inline-block; width: 16px; height: 10px; margin-right: 6px; }
i.value { height: 2px; background: var(--value); vertical-align: middle; }
i.band { background: var(--band); }
i.anomaly { background: var(--anomaly); opacity: .45; }
i.label { background: var(--label); }
i.score { height: 2px; background: var(--score); vertical-align: middle; }
i.level { height: 2px; background: var(--level); vertical-align: middle; }
i.threshold { height: 0; border-top: 2px dashed var(--anomaly); vertical-align: middle; }
summary { cursor: pointer; padding: 4px 0; }
path { fill: none; stroke-linejoin: round; }
path.value { stroke: var(--value); stroke-width: 1.1; }
path.band { fill: var(--band); fill-opacity: .6; stroke: none; }
path.score { stroke: var(--score); stroke-width: .9; }
path.level { stroke: var(--level); stroke-width: 1.1; }
rect.anomaly { fill: var(--anomaly); fill-opacity: .38; }
rect.label { fill: var(--label); }
rect.labelled { fill: var(--label); fill-opacity: .13; }
line.grid { stroke: var(--grid); stroke-width: 1; }
line.threshold { stroke: var(--anomaly); stroke-width: 1; stroke-dasharray: 5 4; }
text.tick { fill: var(--faint); font-size: 11px; font-variant-numeric: tabular-nums; }
@media print { details { break-inside: avoid; } section { break-before: page; } }
"""

/** The style of the page: light or dark as the browser asks; all text and marks meet WCAG AA. */
export const STYLE: string = `
:root {
  color-scheme: light dark;
  --back: #f6f7f9; --panel: #fff; --line: #c9ced6; --ink: #171b21; --soft: #505a68; --focus: #1a56c4;
  --device: #0b6e4f; --host: #1f5fbf; --disk: #a84b15; --remote: #0d7285; --computed: #c9ced6; --none: #5d6776; --blend: #7a3fb8; --on-fill: #fff; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #12151a; --panel: #1a1f26; --line: #3c4552; --ink: #e8ebf0; --soft: #a9b3c1; --focus: #8ab4ff;
    --device: #45c496; --host: #78adf8; --disk: #f19a57; --remote: #5cc4d6; --computed: #4a5463; --none: #a9b3c1; --blend: #c79bf2; --on-fill: #0d1014; --bad: #ff9f96;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
main:focus { outline: none; }
.skip { position: absolute; left: -100vw; }
.skip:focus { left: 1rem; top: .5rem; background: var(--panel); padding: .25rem .5rem; color: var(--ink); }
header { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: baseline; padding: .75rem 1.25rem; border-bottom: 1px solid var(--line); background: var(--panel); }
h1 { font-size: 1.25rem; margin: 0; }
h1 span { font-weight: 400; color: var(--soft); }
h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
h3 { font-size: .9rem; margin: 0 0 .25rem; }
#status { margin: 0; color: var(--soft); flex: 1; }
#status.bad, #explain-result.bad, .bad { color: var(--bad); }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; padding: 1rem 1.25rem; max-width: 84rem; margin: 0 auto; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .9rem 1rem; min-width: 0; }
.wide { grid-column: 1 / -1; }
.note { color: var(--soft); font-size: .875rem; margin: 0 0 .5rem; }
fieldset { border: 0; margin: 0 0 .5rem; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
legend { float: left; margin-right: 1rem; color: var(--soft); }
.tiles { display: flex; flex-wrap: wrap; gap: .5rem 1.75rem; margin: 0 0 .75rem; }
.tiles dt { color: var(--soft); font-size: .875rem; }
.tiles dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; margin: 0 0 .25rem; font-size: .875rem; color: var(--soft); }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; }
.fill-device { background: var(--device); fill: var(--device); }
.fill-host { background: var(--host); fill: var(--host); }
.fill-disk { background: var(--disk); fill: var(--disk); }
.fill-remote { background: var(--remote); fill: var(--remote); }
.fill-none { background: var(--none); fill: var(--none); }
.fill-blend { background: var(--blend); fill: var(--blend); }
.fill-computed { background: var(--computed); fill: var(--computed); }
svg { display: block; width: 100%; height: auto; }
.chart text { fill: var(--soft); font-size: 12px; }
.chart line { stroke: var(--line); }
.chart polyline { fill: none; stroke-width: 2; }
.line-none { stroke: var(--none); }
.line-partial { stroke: var(--disk); }
.line-most { stroke: var(--device); }
.requests { list-style: none; margin: 0; padding: 0; }
.requests li { border-bottom: 1px solid var(--line); }
.requests summary { display: grid; grid-template-columns: 1em 5.5rem minmax(9rem, 1fr) 2fr; gap: .25rem .75rem; align-items: center; padding: .25rem 0; cursor: pointer; font-variant-numeric: tabular-nums; }
.requests summary::before { content: "▸"; }
.requests details[open] summary::before { content: "▾"; }
.requests details > div { padding: .25rem 0 .75rem 1.75rem; }
.spans { height: 14px; background: var(--back); }
.excerpt { text-align: left; overflow-wrap: anywhere; }
.scroll { overflow: auto; max-height: 18rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .875rem; padding-bottom: .25rem; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--line); font-weight: 400; }
th:first-child { text-align: left; }
thead th { color: var(--soft); font-size: .875rem; }
.bar { display: block; width: 100%; min-width: 4rem; height: 8px; margin-top: 2px; }
.icicle { background: var(--back); border-radius: 4px; }
.icicle rect { stroke: var(--panel); stroke-width: 1; }
.icicle text { fill: var(--on-fill); font-size: 12px; pointer-events: none; }
.icicle g { cursor: pointer; outline: none; }
.frame { fill: none; }
.icicle g[aria-selected=true] .frame { stroke: var(--ink); stroke-width: 2; }
.icicle g[aria-selected=true]:focus .frame { stroke-width: 5; }
pre { margin: 0; padding: .5rem; background: var(--back); border: 1px solid var(--line); border-radius: 4px; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 14rem; overflow: auto; font-size: .875rem; }
pre:empty { display: none; }
#node-title { margin: .5rem 0 .25rem; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1rem; }
.sides[hidden] { display: none; }
mark { background: none; color: inherit; text-decoration: underline 3px var(--disk); text-underline-offset: 3px; }
textarea { width: 100%; display: block; margin: .25rem 0 .5rem; font: .875rem/1.4 ui-monospace, monospace; }
textarea, input[type=password], button { background: var(--panel); color: var(--ink); border: 1px solid var(--soft); border-radius: 4px; padding: .25rem .5rem; }
::placeholder { color: var(--soft); opacity: 1; }
button { cursor: pointer; font: inherit; padding: .2rem .75rem; }
button[aria-pressed=true] { background: var(--ink); color: var(--panel); }
.log { list-style: none; margin: 0; padding: 0; height: 15rem; overflow: auto; font: .8125rem/1.5 ui-monospace, monospace; border: 1px solid var(--line); border-radius: 4px; }
.log li { white-space: pre-wrap; padding: 0 .5rem; overflow-wrap: anywhere; }
.operation { border-top: 1px solid var(--line); }
.operation > summary { cursor: pointer; padding: .4rem 0; overflow-wrap: anywhere; }
.operation h3 { display: inline; margin: 0; font: 600 .875rem/1.5 ui-monospace, monospace; }
.method { display: inline-block; min-width: 4.5em; color: var(--focus); }
.operation form { display: grid; gap: .5rem; margin: .5rem 0; }
.operation h4 { font-size: .875rem; margin: .75rem 0 .25rem; }
.field label { display: block; }
.field input { width: 100%; max-width: 32rem; }
input[type=text] { background: var(--panel); color: var(--ink); border: 1px solid var(--soft); border-radius: 4px; padding: .25rem .5rem; font: .875rem/1.4 ui-monospace, monospace; }
.answer { max-height: 28rem; }
`;

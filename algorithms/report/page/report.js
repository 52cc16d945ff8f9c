'use strict';
// Helpers, header, key figures, recipe and table of metrics. Text of runs only ever becomes text
// nodes: nothing here parses HTML.

const runs = JSON.parse(document.getElementById('data').textContent);
const PALETTE = ['#4269d0', '#e08a0b', '#e0505c', '#2f9e8f', '#8a55d7', '#3ca951', '#d65a9c', '#6f95e8', '#9c6b4e', '#8b929c'];
runs.forEach((run, i) => {
  run.color = PALETTE[i % PALETTE.length];
  run.shown = true;
  if (runs.some((other, j) => j !== i && other.name === run.name)) run.label = `${run.name} (${run.folder}, ${i + 1})`;
  else run.label = run.name;
});

/** An element: attributes by name, `on...` handlers, children as nodes or text. */
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'class') node.className = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const isShare = (key) => /accurac|clipped_ratio|frac_|clip_ratio|pass_at|math_answer\/mean$/.test(key);

function formatNumber(value, key = '') {
  if (value === null || value === undefined || !Number.isFinite(value)) return '-';
  if (isShare(key) && Math.abs(value) <= 1) return `${(value * 100).toFixed(1)} %`;
  const size = Math.abs(value);
  const exponential = () => value.toExponential(2).replace(/\.?0+e/, 'e');
  if (size >= 1e7) return exponential();
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  if (size !== 0 && size < 1e-3) return exponential();
  return String(Number(value.toPrecision(4)));
}

function formatDuration(seconds) {
  if (seconds === undefined || seconds === null) return '-';
  const s = Math.round(seconds);
  const two = (n) => String(n).padStart(2, '0');
  return s >= 3600 ? `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} m` : s >= 60 ? `${Math.floor(s / 60)} m ${two(s % 60)} s` : `${s} s`;
}

const lastOf = (run, key) => (run.curves[key] ? run.curves[key].last : undefined);

/** The evaluation that says most of a run: an accuracy, else a reward, else a loss. */
function headline(run) {
  const evaluations = Object.keys(run.curves).filter((key) => key.startsWith('eval_') && !/_(runtime|per_second|s)$/.test(key));
  const tests = [/^eval_accuracy$/, /accurac/, /math_answer\/mean$/, /^eval_reward$/, /reward/, /^eval_loss$/, /loss/];
  for (const test of tests) {
    const key = evaluations.find((name) => test.test(name));
    if (key) return { key, curve: run.curves[key], falls: /loss/.test(key) };
  }
  return null;
}

const state = (run) => {
  if (run.total_steps > 0 && run.last_step >= run.total_steps) return ['finished', 'good'];
  return run.total_steps > 0 ? [`step ${run.last_step} of ${run.total_steps}`, 'warn'] : [`${run.last_step} steps`, ''];
};

function figure(label, value, note) {
  return el('div', { class: 'card figure' }, el('div', { class: 'label' }, label), el('div', { class: 'value' }, value), note && el('div', { class: 'note' }, note));
}

/** "+23.4 points" of a share, else the difference; null if there is only one evaluation. */
function riseOf(head) {
  if (!head || head.curve.count < 2) return null;
  const rise = head.curve.last - head.curve.first;
  const good = head.falls ? rise < 0 : rise > 0;
  const sign = rise > 0 ? '+' : rise < 0 ? '\u2212' : '';
  const share = isShare(head.key);
  const text = share ? `${sign}${(Math.abs(rise) * 100).toFixed(1)} points` : `${sign}${formatNumber(Math.abs(rise))}`;
  return { text, kind: rise === 0 ? '' : good ? 'good' : 'bad' };
}

function heroFigure(run) {
  const head = headline(run);
  if (!head) return null;
  const { key, curve } = head;
  const rise = riseOf(head);
  const values = rise
    ? [el('span', { class: 'value from' }, formatNumber(curve.first, key)), el('span', { class: 'quiet' }, '\u2192'), el('span', { class: 'value' }, formatNumber(curve.last, key)), el('span', { class: `badge ${rise.kind}` }, rise.text)]
    : [el('span', { class: 'value' }, formatNumber(curve.last, key))];
  const card = el('div', { class: 'card figure hero' }, el('div', { class: 'label' }, `${key}${rise ? (run.total_steps > 0 && run.last_step >= run.total_steps ? ': before and after' : ': before and so far') : ''}`), el('div', { class: 'rise' }, values));
  if (isShare(key)) {
    const bar = (value, name) => {
      const i = el('i', { class: name });
      i.style.width = `${Math.max(0, Math.min(1, value)) * 100}%`;
      return i;
    };
    const fell = curve.last < curve.first;
    card.append(el('div', { class: `gauge${fell ? ' fell' : ''}`, 'aria-hidden': 'true' }, bar(Math.max(curve.first, curve.last), ''), bar(Math.min(curve.first, curve.last), 'before')));
  }
  return card;
}

function oneRunFigures(run) {
  const cards = [heroFigure(run)];
  const add = (label, value, note) => value !== undefined && cards.push(figure(label, value, note));
  const change = (key) => (run.curves[key] && run.curves[key].count > 1 ? `from ${formatNumber(run.curves[key].first, key)}` : '');
  const main = ['reward', 'accuracy', 'rewards/accuracies'].find((key) => run.curves[key]);
  if (main) add(`${main}, last step`, formatNumber(lastOf(run, main), main), change(main));
  if (run.curves.loss && (!main || main !== 'reward')) add('loss, last step', formatNumber(lastOf(run, 'loss')), change('loss'));
  add('Steps', String(run.last_step), run.total_steps ? `of ${run.total_steps}` : '');
  if (run.curves.elapsed_s) add('Time', formatDuration(lastOf(run, 'elapsed_s')), run.curves.step_time ? `${formatNumber(lastOf(run, 'step_time'))} s a step` : '');
  if (run.curves.tokens_per_s) add('Tokens a second', formatNumber(lastOf(run, 'tokens_per_s')), run.curves.num_tokens ? `${formatNumber(lastOf(run, 'num_tokens'))} in all` : '');
  if (run.curves['memory/peak_rss_mb']) add('Peak memory', `${(run.curves['memory/peak_rss_mb'].max / 1024).toFixed(1)} GiB`);
  return el('div', { class: 'figures' }, cards);
}

function runTable() {
  const columns = ['run', 'state', 'evaluation', 'before', 'after', 'change', 'reward', 'loss', 'time', 'tok/s', 'peak memory'];
  const rows = runs.map((run) => {
    const head = headline(run);
    const rise = riseOf(head);
    const [text, kind] = state(run);
    const dot = el('span', { class: 'dot' });
    dot.style.background = run.color;
    const memory = run.curves['memory/peak_rss_mb'];
    return el('tr', null,
      el('td', null, dot, run.label),
      el('td', null, el('span', { class: `badge ${kind}` }, text)),
      el('td', null, head ? head.key : '-'),
      el('td', null, head && rise ? formatNumber(head.curve.first, head.key) : '-'),
      el('td', null, head ? formatNumber(head.curve.last, head.key) : '-'),
      el('td', null, rise ? el('span', { class: `badge ${rise.kind}` }, rise.text) : '-'),
      el('td', null, formatNumber(lastOf(run, 'reward'))),
      el('td', null, formatNumber(lastOf(run, 'loss'))),
      el('td', null, formatDuration(lastOf(run, 'elapsed_s'))),
      el('td', null, formatNumber(lastOf(run, 'tokens_per_s'))),
      el('td', null, memory ? `${(memory.max / 1024).toFixed(1)} GiB` : '-'));
  });
  return el('div', { class: 'card table' }, el('table', null, el('thead', null, el('tr', null, columns.map((name) => el('th', null, name)))), el('tbody', null, rows)));
}

function problemList(run) {
  if (!run.problems.length) return null;
  return el('div', { class: 'problems' }, runs.length > 1 && el('b', null, run.label), el('ul', null, run.problems.map((problem) => el('li', null, problem))));
}

function drawSummary() {
  const section = document.getElementById('summary');
  if (runs.length === 1) {
    const run = runs[0];
    const [text, kind] = state(run);
    const env = run.environment;
    const facts = [env.started && `started ${env.started.replace('T', ' ').replace('Z', ' UTC')}`, env.cpu, env.num_cpus && `${env.num_cpus} CPUs`, env.world_size > 1 && `${env.world_size} processes`, env.commit && `commit ${env.commit.slice(0, 10)}`];
    section.append(
      el('div', { class: 'head' }, el('h1', null, run.name), run.algorithm && el('span', { class: 'badge accent' }, run.algorithm), el('span', { class: `badge ${kind}` }, text)),
      el('p', { class: 'sub' }, facts.filter(Boolean).join('  \u00b7  ')));
    const problems = problemList(run);
    if (problems) section.append(problems);
    section.append(oneRunFigures(run));
    return;
  }
  section.append(el('div', { class: 'head' }, el('h1', null, `${runs.length} runs side by side`)), el('p', { class: 'sub' }, runs.map((run) => run.label).join(', ')));
  runs.map(problemList).forEach((problems) => problems && section.append(problems));
  section.append(runTable());
}

function copyButton(text) {
  const button = el('button', { class: 'plain', type: 'button' }, 'Copy');
  button.addEventListener('click', () => navigator.clipboard.writeText(text).then(() => (button.textContent = 'Copied'), () => (button.textContent = 'Select the text to copy it')));
  return button;
}

function drawRecipe() {
  const section = document.getElementById('recipe');
  section.append(el('h2', null, 'Recipe and environment'));
  for (const run of runs) {
    const suffix = runs.length > 1 ? ` of ${run.label}` : '';
    if (run.config) section.append(el('details', { class: 'card' }, el('summary', null, `Resolved recipe${suffix}`), el('div', { class: 'inside' }, copyButton(run.config)), el('pre', { tabindex: '0' }, run.config)));
    const entries = Object.entries(run.environment);
    if (!entries.length) continue;
    const show = (value) => (Array.isArray(value) ? value.join(' ') : typeof value === 'object' ? JSON.stringify(value) : String(value));
    section.append(el('details', { class: 'card' }, el('summary', null, `Environment${suffix}`), el('div', { class: 'inside' }, el('dl', { class: 'pairs' }, entries.map(([key, value]) => [el('dt', null, key.replaceAll('_', ' ')), el('dd', null, show(value))])))));
  }
}

function drawMetrics() {
  const section = document.getElementById('metrics');
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))].sort();
  if (!keys.length) return;
  const rows = keys.flatMap((key) => runs.filter((run) => run.curves[key]).map((run) => {
    const curve = run.curves[key];
    const cells = [curve.first, curve.last, curve.min, curve.max].map((value) => el('td', null, formatNumber(value)));
    return el('tr', { 'data-key': key.toLowerCase() }, el('td', { class: 'key' }, key), runs.length > 1 && el('td', null, run.label), cells, el('td', null, String(curve.count)));
  }));
  const head = ['metric', ...(runs.length > 1 ? ['run'] : []), 'first', 'last', 'least', 'most', 'values'];
  const search = el('input', { type: 'search', placeholder: 'Find a metric', 'aria-label': 'Find a metric', oninput: () => rows.forEach((row) => (row.hidden = !row.dataset.key.includes(search.value.toLowerCase()))) });
  section.append(el('h2', null, 'Metrics'), el('details', { class: 'card' }, el('summary', null, `All ${keys.length} metrics as numbers`), el('div', { class: 'inside' }, search), el('div', { class: 'table' }, el('table', null, el('thead', null, el('tr', null, head.map((name) => el('th', null, name)))), el('tbody', null, rows)))));
}

const themeListeners = [];
function setUpTheme() {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem('meed-theme'); } catch { return null; } };
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  const apply = (theme) => { root.dataset.theme = theme; themeListeners.forEach((listener) => listener()); };
  apply(stored() || (dark.matches ? 'dark' : 'light'));
  dark.addEventListener('change', () => stored() || apply(dark.matches ? 'dark' : 'light'));
  document.getElementById('theme').addEventListener('click', () => {
    const theme = root.dataset.theme === 'dark' ? 'light' : 'dark';
    try { localStorage.setItem('meed-theme', theme); } catch { /* a file may have no storage */ }
    apply(theme);
  });
}

setUpTheme();
drawSummary();
drawRecipe();
drawMetrics();

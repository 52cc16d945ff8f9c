// The curves. A group of charts per subject; what no chart names gets one of its own at the end.

const GROUPS = [
  ['Evaluation', [
    { name: 'eval_accuracy', keys: ['eval_accuracy'] },
    { name: 'accuracy by group', keys: /^eval_accuracy\//, about: 'Share of pairs ranked as labelled, by the column that group_by names.' },
    { name: 'chosen rewards', keys: /^eval_chosen_reward\//, about: 'Quantiles over the evaluation.' },
    { name: 'rejected rewards', keys: /^eval_rejected_reward\//, about: 'Quantiles over the evaluation.' },
    { name: 'gate use', keys: /^eval_gate_use\//, about: 'Mean weight of each head.' },
    { each: /^eval_(?!completions)/ }, { each: /^eval_completions/ }]],
  ['Reward', [
    { name: 'reward', keys: ['reward'], band: 'reward_std', about: 'Mean over the completions of a step; the band is their standard deviation.' },
    { name: 'reward components', keys: /^rewards\/(?!chosen|rejected|margins|accuracies).*\/mean$/, about: 'Mean of each reward function, before weights.' },
    { name: 'spread of components', keys: /^rewards\/.*\/std$/, about: 'Standard deviation of each reward function.' },
    { name: 'groups without spread', keys: ['frac_reward_zero_std'], about: 'Share of groups whose rewards are all equal: they teach nothing.' },
    { name: 'chosen and rejected', keys: ['rewards/chosen', 'rewards/rejected'], about: 'Implicit rewards.' },
    { name: 'margin', keys: ['rewards/margins', 'margin'], about: 'Reward of chosen less that of rejected.' },
    { name: 'pair accuracy', keys: ['rewards/accuracies', 'accuracy'], about: 'Share of pairs ranked as labelled.' },
    { name: 'calibration', keys: /^calibration\//, about: 'Brier score, and confidence less accuracy.' },
    { name: 'reward range', keys: ['max_reward', 'mean_reward', 'min_reward'], about: 'Scores of the reward model.' },
  ]],
  ['Policy', [
    { name: 'loss', keys: ['loss', 'policy_loss'] },
    { name: 'kl', keys: ['kl'], about: 'To the reference model, nats a token (k3).' },
    { name: 'entropy', keys: ['entropy'], about: 'Of the next token, nats.' },
    { name: 'clip ratios', keys: /^clip_ratio\//, about: 'Share of tokens whose ratio left the clip range.' },
    { name: 'token accuracy', keys: ['mean_token_accuracy'], about: 'Share of tokens that the model ranks first.' },
    { name: 'log-probabilities', keys: /^logps\//, about: 'Summed over a completion.' },
    { name: 'logits', keys: /^logits\// },
    { name: 'sampler and trainer: difference', keys: /^sampling\/sampling_logp_difference\//, about: 'Of log-probabilities of the same tokens.' },
    { name: 'sampler and trainer: ratio', keys: /^sampling\/importance_sampling_ratio\// },
  ]],
  ['Completions', [
    { name: 'length', keys: ['completions/mean_length', 'completions/min_length', 'completions/max_length'], about: 'Tokens.' },
    { name: 'length of those that ended', keys: /^completions\/.*terminated_length$/, about: 'Tokens.' },
    { name: 'cut off', keys: ['completions/clipped_ratio'], about: 'Share that reached the length limit.' },
  ]],
  ['Optimiser', [
    { name: 'learning rate', keys: ['learning_rate'], exact: true },
    { name: 'gradient norm', keys: ['grad_norm'], about: 'Before clipping.' },
  ]],
  ['Speed and memory', [
    { name: 'tokens a second', keys: ['tokens_per_s'] },
    { name: 'step time', keys: ['step_time'], about: 'Seconds.' },
    { name: 'time by stage', keys: /^time\//, stacked: true, about: 'Seconds of a step, stacked.' },
    { name: 'memory', keys: /^memory\//, about: 'MiB, the most of any process.', exact: true },
  ]],
];
const HIDDEN = new Set(['elapsed_s', 'reward_std', 'num_tokens', 'epoch']);
const view = { smoothing: 0, axis: 'step', charts: [] };

/** Every chart that has data: {name, about, keys, band, stacked} by group. */
function plannedCharts() {
  const all = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))].sort();
  const used = new Set(HIDDEN);
  const groups = [];
  for (const [title, specs] of GROUPS) {
    const charts = [];
    for (const spec of specs) {
      const pattern = spec.each || spec.keys;
      const keys = (pattern instanceof RegExp ? all.filter((key) => pattern.test(key)) : pattern.filter((key) => all.includes(key))).filter((key) => !used.has(key));
      keys.forEach((key) => used.add(key));
      if (!keys.length) continue;
      if (spec.each || (runs.length > 1 && keys.length > 1)) charts.push(...keys.map((key) => ({ ...spec, name: key, keys: [key], stacked: false })));
      else charts.push({ ...spec, name: keys.length === 1 ? keys[0] : spec.name, keys });
    }
    if (charts.length) groups.push([title, charts]);
  }
  const rest = all.filter((key) => !used.has(key) && runs.some((run) => run.curves[key] && run.curves[key].count > 0));
  if (rest.length) groups.push(['Other', rest.map((key) => ({ name: key, keys: [key] }))]);
  return groups;
}

/** Value of a curve at a step, between its points on a straight line. */
function at(curve, step) {
  const { x, y } = curve;
  let low = 0, high = x.length - 1;
  if (step <= x[0]) return y[0];
  if (step >= x[high]) return y[high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] <= step) low = middle; else high = middle;
  }
  return y[low] + ((y[high] - y[low]) * (step - x[low])) / (x[high] - x[low]);
}

const AXES = {
  step: { label: 'step', of: (run, step) => step },
  minutes: { label: 'minutes', curve: 'elapsed_s', of: (run, step) => at(run.curves.elapsed_s, step) / 60 },
  tokens: { label: 'tokens', curve: 'num_tokens', of: (run, step) => at(run.curves.num_tokens, step) },
};

/** Exponential moving average, without the pull of its start towards zero. */
function smoothed(values) {
  if (view.smoothing === 0 || values.length < 20) return values;
  let mean = 0, weight = 0;
  return values.map((value) => {
    mean = view.smoothing * mean + (1 - view.smoothing) * value;
    weight = view.smoothing * weight + (1 - view.smoothing);
    return mean / weight;
  });
}

const fade = (color, alpha) => color + Math.round(alpha * 255).toString(16).padStart(2, '0');

function lineOf(label, color, points, more = {}) {
  return { label, data: points, borderColor: color, backgroundColor: color, borderWidth: 2, pointRadius: points.length < 2 ? 3 : points.length <= 12 ? 2 : 0, pointHoverRadius: 4, tension: 0, ...more };
}

function dataSets(spec) {
  const sets = [];
  for (const run of runs.filter((candidate) => candidate.shown)) {
    const axis = AXES[view.axis];
    if (axis.curve && !run.curves[axis.curve]) continue;
    spec.keys.forEach((key, i) => {
      const curve = run.curves[key];
      if (!curve) return;
      const color = runs.length > 1 ? run.color : PALETTE[i % PALETTE.length];
      const label = runs.length > 1 ? run.label : key;
      const xs = curve.x.map((step) => axis.of(run, step));
      const smooth = spec.exact ? curve.y : smoothed(curve.y);
      const points = (ys) => xs.map((x, j) => ({ x, y: ys[j] }));
      if (spec.stacked) {
        sets.push(lineOf(label, color, points(smooth), { fill: i === 0 ? 'origin' : '-1', backgroundColor: fade(color, 0.45), borderWidth: 1, pointRadius: 0 }));
        return;
      }
      if (spec.band && run.curves[spec.band] && runs.filter((candidate) => candidate.shown).length <= 3) {
        const spread = smoothed(curve.x.map((step) => at(run.curves[spec.band], step)));
        const edge = { helper: true, borderWidth: 0, pointRadius: 0, pointHoverRadius: 0 };
        sets.push(lineOf('', color, points(smooth.map((y, j) => y + spread[j])), edge));
        sets.push(lineOf('', color, points(smooth.map((y, j) => y - spread[j])), { ...edge, fill: '-1', backgroundColor: fade(color, 0.13) }));
      }
      if (smooth !== curve.y) sets.push(lineOf('', fade(color, 0.25), points(curve.y), { helper: true, borderWidth: 1, pointRadius: 0, pointHoverRadius: 0 }));
      sets.push(lineOf(label, color, points(smooth)));
    });
  }
  return sets;
}

const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A share's axis ends at 0 and 100 %. */
function clampToShares(scale) {
  scale.min = Math.max(0, scale.min);
  if (scale.max > 1) scale.max = 1;
}

function chartOptions(spec) {
  const line = cssColor('--line'), soft = cssColor('--soft'), card = cssColor('--card'), text = cssColor('--text');
  const tick = (value) => formatNumber(value, spec.keys[0]).replace(/\.0 %$/, ' %');
  return {
    animation: false, parsing: false, normalized: false, maintainAspectRatio: false, responsive: true,
    interaction: { mode: 'nearest', axis: 'x', intersect: false },
    scales: {
      x: { type: 'linear', bounds: 'ticks', grid: { color: 'transparent' }, ticks: { color: soft, maxTicksLimit: 8, maxRotation: 0, font: { size: 11 }, callback: (value) => (view.axis === 'step' && !Number.isInteger(value) ? '' : formatNumber(value)) }, title: { display: view.axis !== 'step', text: AXES[view.axis].label, color: soft, font: { size: 11 } } },
      y: { stacked: spec.stacked, beginAtZero: spec.stacked, afterDataLimits: isShare(spec.keys[0]) ? clampToShares : undefined, grid: { color: line, drawBorder: false }, ticks: { color: soft, maxTicksLimit: 6, font: { size: 11 }, callback: tick } },
    },
    plugins: {
      legend: { display: spec.keys.length > 1 && runs.length === 1, position: 'bottom', labels: { color: soft, boxWidth: 8, boxHeight: 8, usePointStyle: true, font: { size: 11 }, filter: (item) => item.text !== '' } },
      tooltip: {
        backgroundColor: card, borderColor: line, borderWidth: 1, titleColor: text, bodyColor: text, padding: 10, boxPadding: 4, usePointStyle: true,
        filter: (item) => !item.dataset.helper,
        callbacks: {
          title: (items) => (items.length ? `${AXES[view.axis].label} ${formatNumber(items[0].parsed.x)}` : ''),
          label: (item) => `${item.dataset.label}: ${formatNumber(item.parsed.y, spec.keys[0])}`,
        },
      },
    },
  };
}

function addChart(grid, spec) {
  const canvas = el('canvas', { role: 'img', 'aria-label': `Curve of ${spec.name}` });
  const card = el('div', { class: 'card chart' });
  const enlarge = el('button', { type: 'button', title: 'Larger or smaller', 'aria-label': `Larger or smaller: ${spec.name}`, onclick: () => { card.classList.toggle('wide'); } }, '\u2922');
  const single = runs.length === 1 && spec.keys.length === 1 ? formatNumber(lastOf(runs[0], spec.keys[0]), spec.keys[0]) : '';
  card.append(el('div', { class: 'name' }, el('b', null, spec.name), el('span', { class: 'now', title: 'last value' }, single), enlarge), el('p', { class: 'about' }, spec.about || ''), el('div', { class: 'canvas' }, canvas));
  grid.append(card);
  const chart = new Chart(canvas, { type: 'line', data: { datasets: dataSets(spec) }, options: chartOptions(spec) });
  view.charts.push({ chart, spec });
}

let redrawPending = false;
function redrawCharts() {
  if (redrawPending) return;
  redrawPending = true;
  requestAnimationFrame(() => {
    redrawPending = false;
    for (const { chart, spec } of view.charts) {
      chart.data.datasets = dataSets(spec);
      chart.options = chartOptions(spec);
      chart.update('none');
    }
  });
}

function chartControls() {
  const most = Math.max(0, ...runs.flatMap((run) => Object.values(run.curves).map((curve) => curve.count)));
  view.smoothing = most >= 40 ? 0.6 : 0;
  const output = el('output', null, view.smoothing.toFixed(2));
  const slider = el('input', { type: 'range', min: '0', max: '0.98', step: '0.02', value: String(view.smoothing), 'aria-label': 'Smoothing', oninput: () => {
    view.smoothing = Number(slider.value);
    output.textContent = view.smoothing.toFixed(2);
    redrawCharts();
  } });
  const axes = Object.entries(AXES).filter(([, axis]) => !axis.curve || runs.some((run) => run.curves[axis.curve]));
  const axis = el('select', { 'aria-label': 'Horizontal axis', onchange: () => { view.axis = axis.value; redrawCharts(); } }, axes.map(([name, { label }]) => el('option', { value: name }, label)));
  const controls = el('div', { class: 'card controls' }, el('label', null, 'Smoothing', slider, output), el('label', null, 'Over', axis));
  if (runs.length > 1) controls.append(el('div', { class: 'runs' }, runs.map((run) => {
    const dot = el('span', { class: 'dot' });
    dot.style.background = run.color;
    dot.style.marginRight = '0';
    const box = el('input', { type: 'checkbox', checked: true, onchange: () => { run.shown = box.checked; redrawCharts(); } });
    return el('label', null, box, dot, run.label);
  })));
  return controls;
}

function drawCurves() {
  const section = document.getElementById('curves');
  const groups = plannedCharts();
  if (!groups.length) return;
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  section.append(el('h2', null, 'Curves'), chartControls());
  for (const [title, specs] of groups) {
    const grid = el('div', { class: 'grid' });
    section.append(el('h3', null, title), grid);
    specs.forEach((spec) => addChart(grid, spec));
  }
  themeListeners.push(redrawCharts);
}

drawCurves();

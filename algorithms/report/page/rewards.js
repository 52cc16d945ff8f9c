// What evaluations of a reward model saw: calibration, both sides' rewards, reward by length, gates
// and the members' disagreement, of any step that was evaluated.

const inspected = runs.filter((run) => run.inspection && run.inspection.length);
const inspection = { run: 0, line: 0, charts: [] };

/** Axes in the page's colours. */
function inspectionScale(title, more = {}) {
  const soft = cssColor('--soft');
  return { ticks: { color: soft, font: { size: 11 }, maxRotation: 0, ...(more.ticks || {}) }, grid: { color: cssColor('--line'), drawBorder: false }, title: { display: true, text: title, color: soft, font: { size: 11 } }, ...(more.rest || {}) };
}

function inspectionOptions(x, y, legend) {
  return {
    animation: false, maintainAspectRatio: false, responsive: true,
    scales: { x, y },
    plugins: {
      legend: { display: legend, position: 'bottom', labels: { color: cssColor('--soft'), boxWidth: 8, boxHeight: 8, usePointStyle: true, font: { size: 11 } } },
      tooltip: { backgroundColor: cssColor('--card'), borderColor: cssColor('--line'), borderWidth: 1, titleColor: cssColor('--text'), bodyColor: cssColor('--text') },
    },
  };
}

const percent = (value) => `${Math.round(value * 100)} %`;

function reliabilityChart(line) {
  const points = line.reliability.map((bin) => ({ x: bin.confidence, y: bin.accuracy, count: bin.count }));
  const most = Math.max(1, ...points.map((point) => point.count));
  const share = { min: 0, max: 1 };
  return {
    name: 'Reliability', about: 'Accuracy of pairs by how sure the model was; on the line it is as often right as it says. Points grow with their pairs.',
    config: {
      type: 'line',
      data: { datasets: [
        { label: 'measured', data: points, borderColor: PALETTE[0], backgroundColor: PALETTE[0], borderWidth: 2, pointRadius: points.map((point) => 3 + 6 * Math.sqrt(point.count / most)) },
        { label: 'as sure as right', data: [{ x: 0.5, y: 0.5 }, { x: 1, y: 1 }], borderColor: cssColor('--faint'), borderDash: [4, 4], borderWidth: 1, pointRadius: 0 }] },
      options: inspectionOptions(
        inspectionScale('confidence', { ticks: { callback: percent }, rest: { type: 'linear', min: 0.5, max: 1 } }),
        inspectionScale('accuracy', { ticks: { callback: percent }, rest: share }), true),
    },
  };
}

function distributionChart(line) {
  const labels = line.chosen.map((_, i) => formatNumber(line.low + (i + 0.5) * line.width));
  const bars = (label, data, color) => ({ label, data, backgroundColor: fade(color, 0.6), borderWidth: 0, barPercentage: 1, categoryPercentage: 1, grouped: false });
  return {
    name: 'Chosen and rejected', about: `Rewards of both sides of ${line.pairs.toLocaleString('en-US')} pairs.`,
    config: { type: 'bar', data: { labels, datasets: [bars('chosen', line.chosen, PALETTE[0]), bars('rejected', line.rejected, PALETTE[2])] }, options: inspectionOptions(inspectionScale('reward', { ticks: { maxTicksLimit: 7 } }), inspectionScale('completions'), true) },
  };
}

function barChart(name, about, labels, values, xTitle, yTitle, share) {
  return {
    name, about,
    config: { type: 'bar', data: { labels, datasets: [{ label: yTitle, data: values, backgroundColor: fade(PALETTE[0], 0.7), borderWidth: 0 }] }, options: inspectionOptions(inspectionScale(xTitle), inspectionScale(yTitle, share ? { ticks: { callback: percent }, rest: { min: 0, max: 1 } } : {}), false) },
  };
}

function inspectionCharts(line) {
  const charts = [reliabilityChart(line), distributionChart(line)];
  charts.push(barChart('Reward by length', 'Mean reward of completions of up to so many tokens, in brackets how many: a slope is a preference for length.', line.length.map((bucket) => `${bucket.up_to} (${bucket.count})`), line.length.map((bucket) => bucket.mean), 'tokens', 'mean reward', false));
  if (line.gates) charts.push(barChart('Gate use', 'Mean weight of each head over the prompts.', Object.keys(line.gates), Object.values(line.gates), 'head', 'weight', true));
  if (line.disagreement) charts.push(barChart('Disagreement of the members', 'Accuracy of the thirds of the pairs that members agree on most, less and least.', line.disagreement.map((part) => `spread ${formatNumber(part.disagreement)} (${part.count})`), line.disagreement.map((part) => part.accuracy), 'thirds', 'accuracy', true));
  return charts;
}

function drawInspection(grid) {
  inspection.charts.forEach((chart) => chart.destroy());
  inspection.charts = [];
  const line = inspected[inspection.run].inspection[inspection.line];
  grid.replaceChildren(...inspectionCharts(line).map(({ name, about, config }) => {
    const canvas = el('canvas', { role: 'img', 'aria-label': name });
    const card = el('div', { class: 'card chart' }, el('div', { class: 'name' }, el('b', null, name)), el('p', { class: 'about' }, about), el('div', { class: 'canvas' }, canvas));
    requestAnimationFrame(() => canvas.isConnected && inspection.charts.push(new Chart(canvas, config)));
    return card;
  }));
}

function drawRewards() {
  const section = document.getElementById('rewards');
  const link = document.querySelector('nav a[href="#rewards"]');
  if (!inspected.length) {
    link.classList.add('hidden');
    return;
  }
  const grid = el('div', { class: 'grid' });
  const steps = el('select', { 'aria-label': 'Step', onchange: () => { inspection.line = Number(steps.value); drawInspection(grid); } });
  const fill = () => {
    const lines = inspected[inspection.run].inspection;
    inspection.line = lines.length - 1;
    steps.replaceChildren(...lines.map((line, i) => el('option', { value: String(i), selected: i === inspection.line }, String(line.step))));
    drawInspection(grid);
  };
  const controls = el('div', { class: 'card controls' }, el('label', null, 'Evaluation at step', steps));
  if (inspected.length > 1) {
    const run = el('select', { 'aria-label': 'Run', onchange: () => { inspection.run = Number(run.value); fill(); } }, inspected.map((each, i) => el('option', { value: String(i) }, each.label)));
    controls.append(el('label', null, 'Run', run));
  }
  section.append(el('h2', null, 'Reward model'), controls, grid);
  fill();
  themeListeners.push(() => drawInspection(grid));
}

drawRewards();

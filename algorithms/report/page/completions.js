// Sampled completions: filter, sort, search, page; and the same prompts before and after, side by
// side.

const PHASES = { before: 'Before', train: 'Training', eval: 'Evaluations', after: 'After' };
const samples = runs.flatMap((run) => run.completions.rows.map((row, order) => ({ ...row, run, order, promptText: run.completions.prompts[row.prompt] || '' })));
const chosen = { show: 'all', run: '', step: '', sort: 'order', search: '', page: 0 };
const PAGE_SIZE = 10;

/** Prompts that were answered both before training and at its end (or, of a run that goes on, in
 * the latest evaluation), with the answers of each. */
function comparisons() {
  const latest = new Map();
  for (const { run, phase, step } of samples) {
    if (phase === 'after') latest.set(run, Infinity);
    if (phase === 'eval') latest.set(run, Math.max(step, latest.get(run) || 0));
  }
  const sideOf = ({ run, phase, step }) => (phase === 'before' || phase === 'after' ? phase : phase === 'eval' && step === latest.get(run) ? 'after' : null);
  const byPrompt = new Map();
  for (const sample of samples) {
    const side = sideOf(sample);
    if (!side) continue;
    const key = `${runs.indexOf(sample.run)} ${sample.promptText}`;
    if (!byPrompt.has(key)) byPrompt.set(key, { run: sample.run, promptText: sample.promptText, before: [], after: [] });
    byPrompt.get(key)[side].push(sample);
  }
  return [...byPrompt.values()].filter((entry) => entry.before.length && entry.after.length);
}
const compared = comparisons();

const matches = (sample, words) => {
  const text = `${sample.promptText}\n${sample.completion}\n${sample.answer}`.toLowerCase();
  return words.every((word) => text.includes(word));
};
const searchWords = () => chosen.search.toLowerCase().split(/\s+/).filter(Boolean);

/** The text with every search word marked, as nodes. */
function marked(text) {
  const words = searchWords();
  if (!words.length) return [text];
  const lower = text.toLowerCase();
  if (lower.length !== text.length) return [text];  // a character that changes its length in lower case
  const nodes = [];
  let position = 0;
  while (position < text.length) {
    let next = -1, length = 0;
    for (const word of words) {
      const found = lower.indexOf(word, position);
      if (found >= 0 && (next < 0 || found < next)) { next = found; length = word.length; }
    }
    if (next < 0) break;
    nodes.push(text.slice(position, next), el('mark', null, text.slice(next, next + length)));
    position = next + length;
  }
  nodes.push(text.slice(position));
  return nodes;
}

/** Text that folds to a few lines; the button unfolds it. */
function foldable(text, className) {
  const box = el('p', { class: `says ${className}` }, marked(text));
  if (text.length < 420 && text.split('\n').length <= 5) return [box];
  box.classList.add('folded');
  const button = el('button', { class: 'more', type: 'button', onclick: () => {
    button.textContent = box.classList.toggle('folded') ? 'Show all' : 'Show less';
  } }, 'Show all');
  return [box, button];
}

const range = (() => {
  const rewards = samples.map((sample) => sample.reward).filter((reward) => reward !== null);
  return rewards.length ? [rewards.reduce((a, b) => Math.min(a, b)), rewards.reduce((a, b) => Math.max(a, b))] : [0, 0];
})();

function rewardBadge(sample) {
  const { reward } = sample;
  const share = reward === null || range[1] === range[0] ? null : (reward - range[0]) / (range[1] - range[0]);
  const kind = share === null ? '' : share > 0.66 ? 'good' : share < 0.34 ? 'bad' : 'warn';
  return el('span', { class: `badge ${kind}` }, `reward ${formatNumber(reward)}`);
}

function factsOf(sample) {
  const parts = Object.entries(sample.rewards);
  const dull = parts.length === 1 && parts[0][1] === sample.reward;
  return el('div', { class: 'facts' },
    rewardBadge(sample),
    !dull && parts.map(([name, value]) => el('span', { class: 'badge' }, `${name} ${formatNumber(value)}`)),
    sample.advantage !== null && el('span', { class: 'badge' }, `advantage ${formatNumber(sample.advantage)}`),
    sample.finish_reason === 'length' && el('span', { class: 'badge warn' }, 'cut off'),
    el('span', { class: 'spring' }),
    runs.length > 1 && el('span', { class: 'quiet' }, sample.run.label),
    el('span', { class: 'quiet' }, [sample.phase === 'before' || sample.phase === 'after' ? `${sample.phase} training` : sample.phase === 'eval' ? `evaluation at step ${sample.step}` : `step ${sample.step}`, sample.num_tokens !== null && `${sample.num_tokens} tokens`].filter(Boolean).join(' \u00b7 ')));
}

function answerOf(sample) {
  return sample.answer && el('div', { class: 'quiet' }, 'Reference answer: ', el('b', null, marked(sample.answer)));
}

function completionCard(sample) {
  return el('article', { class: 'card completion' }, factsOf(sample),
    el('div', { class: 'role' }, 'Prompt'), foldable(sample.promptText, 'prompt'),
    el('div', { class: 'role' }, 'Completion'), el('p', { class: 'says reply' }, sample.completion ? marked(sample.completion) : '(empty)'),
    answerOf(sample));
}

function comparisonCard(entry) {
  const side = (name, list) => el('div', null, el('div', { class: 'role' }, name), list.map((sample) => el('div', null, factsOf(sample), el('p', { class: 'says reply' }, sample.completion ? marked(sample.completion) : '(empty)'))));
  return el('article', { class: 'card completion' },
    runs.length > 1 && el('span', { class: 'quiet' }, entry.run.label),
    el('div', { class: 'role' }, 'Prompt'), foldable(entry.promptText, 'prompt'), answerOf(entry.before[0]),
    el('div', { class: 'pair' }, side('Before', entry.before), side(entry.after[0].phase === 'after' ? 'After' : `Step ${entry.after[0].step}`, entry.after)));
}

const rewardOf = (sample) => (sample.reward === null ? -Infinity : sample.reward);
const meanReward = (list) => list.reduce((sum, sample) => sum + (sample.reward || 0), 0) / list.length;
const SORTS = {
  order: ['as sampled', null, null],
  high: ['highest reward', (a, b) => rewardOf(b) - rewardOf(a), (a, b) => meanReward(b.after) - meanReward(a.after)],
  low: ['lowest reward', (a, b) => rewardOf(a) - rewardOf(b), (a, b) => meanReward(a.after) - meanReward(b.after)],
  gain: ['largest change', (a, b) => Math.abs(b.advantage || 0) - Math.abs(a.advantage || 0), (a, b) => meanReward(b.after) - meanReward(b.before) - (meanReward(a.after) - meanReward(a.before))],
  long: ['longest', (a, b) => (b.num_tokens || 0) - (a.num_tokens || 0), (a, b) => b.promptText.length - a.promptText.length],
};

/** What the filters leave, as functions that make a card. */
function selection() {
  const words = searchWords();
  const ofRun = (item) => chosen.run === '' || runs.indexOf(item.run) === Number(chosen.run);
  const comparing = chosen.show === 'compare';
  let list = comparing
    ? compared.filter((entry) => ofRun(entry) && (!words.length || [...entry.before, ...entry.after].some((sample) => matches(sample, words))))
    : samples.filter((sample) => ofRun(sample) && (chosen.show === 'all' || sample.phase === chosen.show) && (chosen.step === '' || sample.step === Number(chosen.step)) && matches(sample, words));
  const order = SORTS[chosen.sort][comparing ? 2 : 1];
  if (order) list = [...list].sort(order);
  return list.map((item) => () => (comparing ? comparisonCard(item) : completionCard(item)));
}

function drawCompletions() {
  const section = document.getElementById('completions');
  if (!samples.length) {
    document.querySelector('nav a[href="#completions"]').classList.add('hidden');
    return;
  }
  const list = el('div', { 'aria-live': 'polite' });
  const pager = el('div', { class: 'pager' });
  const steps = [...new Set(samples.filter((sample) => sample.phase !== 'before' && sample.phase !== 'after').map((sample) => sample.step))].sort((a, b) => a - b);

  function draw() {
    const cards = selection();
    const pages = Math.max(1, Math.ceil(cards.length / PAGE_SIZE));
    chosen.page = Math.max(0, Math.min(chosen.page, pages - 1));
    const shown = cards.slice(chosen.page * PAGE_SIZE, (chosen.page + 1) * PAGE_SIZE).map((make) => make());
    list.replaceChildren(...(shown.length ? shown : [el('div', { class: 'card empty' }, 'Nothing matches. Change the search or the filters.')]));
    const turn = (by) => () => { chosen.page += by; draw(); section.scrollIntoView(); };
    pager.replaceChildren(
      el('button', { class: 'plain', type: 'button', disabled: chosen.page === 0, onclick: turn(-1) }, '\u2190 Previous'),
      el('span', null, `Page ${chosen.page + 1} of ${pages} (${cards.length.toLocaleString('en-US')} ${chosen.show === 'compare' ? 'prompts' : 'completions'})`),
      el('button', { class: 'plain', type: 'button', disabled: chosen.page >= pages - 1, onclick: turn(1) }, 'Next \u2192'));
    stepLabel.hidden = chosen.show === 'before' || chosen.show === 'after' || chosen.show === 'compare' || !steps.length;
    for (const button of segments.children) button.setAttribute('aria-pressed', String(button.dataset.show === chosen.show));
  }
  const restart = () => { chosen.page = 0; draw(); };

  const count = (phase) => samples.filter((sample) => sample.phase === phase).length;
  const choices = [compared.length && ['compare', 'Before | after'], ['all', 'All'], ...Object.entries(PHASES).filter(([phase]) => count(phase))].filter(Boolean);
  chosen.show = choices[0][0];
  const segments = el('div', { class: 'segments', role: 'group', 'aria-label': 'Which completions' }, choices.map(([show, name]) => el('button', { type: 'button', 'data-show': show, onclick: () => { chosen.show = show; chosen.step = step.value = ''; restart(); } }, name)));
  const select = (name, options) => {
    const node = el('select', { onchange: () => { chosen[name] = node.value; restart(); } }, options.map(([value, text]) => el('option', { value }, text)));
    return node;
  };
  const step = select('step', [['', 'any'], ...steps.map((value) => [String(value), String(value)])]);
  const stepLabel = el('label', null, 'Step', step);
  const sort = select('sort', Object.entries(SORTS).map(([name, [text]]) => [name, text]));
  const search = el('input', { type: 'search', placeholder: 'Search prompts and completions', 'aria-label': 'Search', oninput: () => { chosen.search = search.value; restart(); } });
  const tools = el('div', { class: 'card tools' }, segments, stepLabel, el('label', null, 'Sort', sort),
    runs.length > 1 && el('label', null, 'Run', select('run', [['', 'all'], ...runs.map((run, i) => [String(i), run.label])])), search);

  section.append(el('h2', null, 'Completions'));
  const total = runs.reduce((sum, run) => sum + run.completions.total, 0);
  if (total > samples.length) section.append(el('p', { class: 'sub' }, `${samples.length.toLocaleString('en-US')} of ${total.toLocaleString('en-US')}, evenly over the steps; all are in completions.jsonl.`));
  section.append(tools, list, pager);
  draw();
}

drawCompletions();

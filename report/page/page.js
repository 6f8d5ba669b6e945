'use strict';
/* Reads the data that report/html.c put into the page and fills every section. */

const data = JSON.parse(document.getElementById('data').textContent), sum = data.summary || {};
const $ = id => document.getElementById(id);
const points = (sum.results || []).filter(p => p.layer_us > 0);
const batches = [...new Set(points.map(p => p.batch))].sort((a, b) => a - b);
const nameOf = p => p.policy.includes(' ') || !p.method ? p.policy : p.policy + ' ' + p.method;
const names = [...new Set(points.map(nameOf))];
// As plots/style.gp: by the row in the table of policies, none is grey.
const palette = ['#777777', '#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00', '#882255', '#F0E442'];
const dashes = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
const family = n => n.split(' ')[0];
const colourOf = n => palette[(data.policies || []).indexOf(family(n))] || '#999933';
const sign = v => (v >= 0 ? '+' : '−') + Math.abs(v).toFixed(1) + '%';
const css = n => getComputedStyle(document.body).getPropertyValue(n).trim();

function bestOf(name, batch) {
  return points.filter(p => nameOf(p) === name && p.batch === batch).reduce((a, b) => !a || b.gain_pct > a.gain_pct ? b : a, null);
}

/* 90% intervals of run --confidence: by policy and batch. */
const intervals = new Map((sum.confidence || []).filter(c => Array.isArray(c.gain_pct_90)).map(c => {
  const batch = /batch (\d+)/.exec(c.scenario);
  return [c.policy + '@' + (batch ? +batch[1] : batches[0]), c];
}));
const intervalOf = (name, batch) => intervals.get(name + '@' + batch);
const rangeText = c => `${sign(c.gain_pct_90[0])} to ${sign(c.gain_pct_90[1])}`;

/* Draws them as whiskers on a line chart; key: gain_pct_90 or layer_us_90. */
const whiskers = key => ({
  id: 'whiskers',
  afterDatasetsDraw(chart) {
    const ctx = chart.ctx, {x, y} = chart.scales;
    chart.data.datasets.forEach((set, i) => {
      if (!chart.isDatasetVisible(i)) return;
      ctx.save();
      ctx.strokeStyle = set.borderColor;
      ctx.lineWidth = 1.5;
      for (const p of set.data) {
        const c = intervalOf(set.label, p.x);
        if (!c) continue;
        const [low, high] = c[key].map(v => y.getPixelForValue(v)), at = x.getPixelForValue(p.x) + (i - chart.data.datasets.length / 2) * 2;
        ctx.beginPath();
        ctx.moveTo(at, low); ctx.lineTo(at, high);
        ctx.moveTo(at - 3, low); ctx.lineTo(at + 3, low);
        ctx.moveTo(at - 3, high); ctx.lineTo(at + 3, high);
        ctx.stroke();
      }
      ctx.restore();
    });
  },
});

function header() {
  document.title = $('title').textContent = 'peosim: ' + (sum.config || data.folder);
  const facts = [];
  if (sum.model) facts.push('model ' + sum.model, 'GPU profile ' + sum.profile, 'seed ' + sum.seed, sum.fidelity, 'peosim ' + sum.version, 'config ' + String(sum.config_hash).slice(0, 12));
  $('facts').textContent = facts.filter(Boolean).join('  ·  ');
}

/* The summary in words: from which batch on overlap pays, with what, and how sure that is. */
function words() {
  const list = [];
  for (const b of batches) {
    const all = names.filter(n => n !== 'none').map(n => bestOf(n, b)).filter(Boolean).sort((x, y) => y.gain_pct - x.gain_pct);
    if (!all.length) continue;
    const best = all[0], second = all[1];
    const sure = intervalOf(nameOf(best), b);
    list.push(best.gain_pct > 0
      ? `Batch ${b}: ${nameOf(best)} is ${sign(best.gain_pct)} over no overlap${sure ? ', 90% interval ' + rangeText(sure) : ''} (${best.layer_us.toFixed(0)} µs instead of ${best.none_us.toFixed(0)})` + (second ? `; next ${nameOf(second)} ${sign(second.gain_pct)}.` : '.')
      : `Batch ${b}: no policy that was tried gains; the nearest, ${nameOf(best)}, is at ${sign(best.gain_pct)}.`);
  }
  if (!list.length && data.panels.length) list.push(data.panels.length + ' timelines; no table of predictions lies in this folder.');
  $('words').replaceChildren(...list.map(t => Object.assign(document.createElement('li'), {textContent: t})));
}

function lineChart(id, value, yTitle, yType, interval) {
  const series = names.map((n, i) => ({
    label: n, borderColor: colourOf(n), backgroundColor: colourOf(n), pointRadius: 3, tension: 0, borderWidth: 2,
    borderDash: dashes[names.slice(0, i).filter(m => family(m) === family(n)).length % 4],
    data: batches.map(b => { const p = bestOf(n, b); return p ? {x: b, y: value(p)} : null; }).filter(Boolean),
  }));
  return new Chart($(id), {
    type: 'line', data: {datasets: series}, plugins: intervals.size ? [whiskers(interval)] : [],
    options: {
      animation: false, maintainAspectRatio: false, interaction: {mode: 'nearest', intersect: false},
      scales: {
        x: {type: 'logarithmic', title: {display: true, text: 'batch: tokens per rank', color: css('--fg')}, ticks: {color: css('--soft'), callback: v => batches.includes(v) ? v : ''}, afterBuildTicks: a => { a.ticks = batches.map(value => ({value})); }, grid: {color: css('--line')}},
        y: {type: yType, title: {display: true, text: yTitle, color: css('--fg')}, ticks: {color: css('--soft')}, grid: {color: css('--line')}},
      },
      plugins: {legend: {position: 'right', labels: {color: css('--fg'), boxWidth: 26}}},
    },
  });
}

const partOrder = ['fixed', 'sm', 'hbm', 'push', 'nvlink', 'nic', 'wait', 'blocked', 'launch'];
const partColours = ['#8c8c8c', '#009E73', '#66c2a4', '#F0E442', '#56B4E9', '#D55E00', '#CC79A7', '#882255', '#444444'];
let partsChart;
function parts() {
  const b = +$('partsbatch').value, rows = names.map(n => bestOf(n, b)).filter(p => p && p.critical_path_us);
  const sets = partOrder.map((k, i) => ({label: k, backgroundColor: partColours[i], data: rows.map(p => p.critical_path_us[k] || 0)}));
  if (partsChart) partsChart.destroy();
  partsChart = new Chart($('parts'), {
    type: 'bar', data: {labels: rows.map(nameOf), datasets: sets},
    options: {
      animation: false, indexAxis: 'y', maintainAspectRatio: false,
      scales: {x: {stacked: true, title: {display: true, text: 'µs of a layer', color: css('--fg')}, ticks: {color: css('--soft')}, grid: {color: css('--line')}}, y: {stacked: true, ticks: {color: css('--fg')}, grid: {display: false}}},
      plugins: {legend: {position: 'bottom', labels: {color: css('--fg'), boxWidth: 12}}},
    },
  });
}

function why() {
  if (!data.why || !data.why.length) return $('whybox').remove();
  new Chart($('why'), {
    type: 'bar', data: {labels: data.why.map(w => w[0]), datasets: [{data: data.why.map(w => w[1]), backgroundColor: data.why.map(w => w[1] >= 0 ? '#0072B2' : '#D55E00')}]},
    options: {animation: false, indexAxis: 'y', maintainAspectRatio: false, plugins: {legend: {display: false}}, scales: {x: {title: {display: true, text: 'µs saved', color: css('--fg')}, ticks: {color: css('--soft')}, grid: {color: css('--line')}}, y: {ticks: {color: css('--fg')}, grid: {display: false}}}},
  });
}

const heatable = () => names.filter(n => new Set(points.filter(p => nameOf(p) === n).map(p => p.num_sms + '/' + p.num_rounds)).size > 1);
function heat() {
  const n = $('heatpolicy').value, b = +$('heatbatch').value, some = points.filter(p => nameOf(p) === n && p.batch === b);
  const rounds = [...new Set(some.map(p => p.num_rounds))].sort((x, y) => x - y), sms = [...new Set(some.map(p => p.num_sms))].sort((x, y) => x - y);
  const most = Math.max(1, ...some.map(p => Math.abs(p.gain_pct))), best = bestOf(n, b), t = $('heat');
  t.replaceChildren();
  const head = t.insertRow();
  head.insertCell().textContent = 'rounds \\ SMs';
  sms.forEach(s => { head.insertCell().textContent = s; });
  for (const r of rounds) {
    const row = t.insertRow();
    row.insertCell().textContent = r;
    for (const s of sms) {
      const cell = row.insertCell(), p = some.filter(q => q.num_rounds === r && q.num_sms === s).reduce((a, q) => !a || q.gain_pct > a.gain_pct ? q : a, null);
      if (!p) { cell.textContent = '–'; continue; }
      const share = Math.min(1, Math.abs(p.gain_pct) / most), mix = Math.round(share * 75);
      cell.textContent = sign(p.gain_pct);
      cell.style.background = `color-mix(in srgb, ${p.gain_pct >= 0 ? '#0072B2' : '#D55E00'} ${mix}%, transparent)`;
      if (p === best) cell.className = 'best';
    }
  }
}

function bestTable() {
  const cols = [['batch', p => p.batch], ['policy', nameOf], ['layer µs', p => p.layer_us.toFixed(1)], ['gain', p => sign(p.gain_pct)], ...(intervals.size ? [['90% interval', p => { const c = intervalOf(nameOf(p), p.batch); return c ? rangeText(c) : ''; }]] : []), ['exposed comm. µs', p => p.exposed_comm_us.toFixed(1)], ['SMs', p => (100 * p.sm_util).toFixed(0) + '%'], ['NVLink', p => (100 * p.nvlink_util).toFixed(0) + '%'], ['NIC', p => (100 * p.nic_util).toFixed(0) + '%'], ['rounds', p => p.num_rounds], ['comm. SMs', p => nameOf(p) === 'none' ? '' : p.num_sms], ['assumed', p => (100 * p.assumed_share).toFixed(0) + '%']];
  const rows = batches.flatMap(b => names.map(n => bestOf(n, b)).filter(Boolean)), t = $('best');
  const fill = list => {
    while (t.rows.length > 1) t.deleteRow(1);
    for (const p of list) { const r = t.insertRow(); cols.forEach(([, f]) => { r.insertCell().textContent = f(p); }); }
  };
  const head = t.insertRow();
  cols.forEach(([label, f], i) => {
    const th = document.createElement('th');
    th.textContent = label;
    th.onclick = () => { const v = p => { const x = f(p); const n = parseFloat(String(x).replace('−', '-')); return isNaN(n) ? String(x) : n; }; th.down = !th.down; fill([...rows].sort((a, b) => (v(a) > v(b) ? 1 : v(a) < v(b) ? -1 : 0) * (th.down ? -1 : 1))); };
    head.append(th);
  });
  fill(rows);
}

function trust() {
  if (!points.length) return;
  const mean = points.reduce((a, p) => a + p.assumed_share, 0) / points.length;
  $('trust').textContent = `${(100 * mean).toFixed(0)}% of the ops' time, on average over all points, rests on fields of the profile without a measurement of their own on this GPU. ` + `"peosim info profile ${sum.profile}" lists every field with its origin and source.`;
}

function select(el, values, onchange, chosen) {
  el.replaceChildren(...values.map(([v, t]) => Object.assign(document.createElement('option'), {value: v, textContent: t})));
  if (chosen !== undefined) el.value = chosen;
  el.onchange = onchange;
}

function timelines() {
  if (!data.panels.length) return $('timelines').remove();
  const all = new Timelines($('panels'), data.panels, $('tip')), ranks = Math.max(...data.panels.map(p => p.ranks));
  const ks = [...new Set(data.panels.flatMap(p => p.kinds))];
  $('key').replaceChildren(...keyNames.filter(([p]) => p ? ks.some(k => k.startsWith(p)) : ks.some(k => kindColour(k) === kindColour('~'))).map(([p, t]) => {
    const s = document.createElement('span'), i = document.createElement('i');
    i.style.background = kindColour(p || '~');
    s.append(i, t);
    return s;
  }));
  select($('which'), [['slowest', 'the slowest rank'], ['all', 'all ranks'], ...Array.from({length: Math.min(ranks, 1024)}, (_, r) => [r, 'rank ' + r])], e => { all.mode = e.target.value; all.layout(); });
  $('path').onchange = e => { all.showPath = e.target.checked; all.draw(); };
  $('loads').onchange = e => { all.showLoads = e.target.checked; all.layout(); };
  $('reset').onclick = () => all.reset();
  $('everything').onclick = () => all.all();
  all.layout();
  return all;
}

/* For tests, by #selftest in the address: points at a span, zooms, shows all ranks, and says what
 * came of it in an attribute of the page. */
function selftest(all) {
  const out = {};
  if (all) {
    const panel = all.panels[0], row = panel.rows[0], i = panel.p.rank.findIndex((r, k) => r === row.rank && panel.p.stream[k] === row.stream);
    const at = (type, more) => new PointerEvent(type, Object.assign({bubbles: true}, more));
    const box = panel.canvas.getBoundingClientRect(), x = all.x((panel.p.start[i] + panel.p.end[i]) / 2);
    panel.canvas.dispatchEvent(at('pointermove', {clientX: box.left + x, clientY: box.top + row.y + 3}));
    out.tip = $('tip').textContent;
    panel.canvas.dispatchEvent(new WheelEvent('wheel', {clientX: box.left + x, clientY: box.top + 30, deltaY: -700, bubbles: true, cancelable: true}));
    out.zoomed = (all.to - all.from) / all.full;
    all.reset();
    const t0 = performance.now();
    all.mode = 'all'; all.layout();
    out.all_ranks_ms = performance.now() - t0;
    out.rows = panel.rows.length;
    all.mode = 'slowest'; all.layout();
    out.path = panel.p.path.size;
  }
  out.best_rows = $('best').rows.length;
  out.intervals = intervals.size;
  document.body.setAttribute('data-selftest', JSON.stringify(out));
}

header(); words();
if (points.length) {
  lineChart('gain', p => p.gain_pct, 'gain, %', 'linear', 'gain_pct_90');
  lineChart('time', p => p.layer_us, 'layer, µs', 'logarithmic', 'layer_us_90');
  const bs = batches.map(b => [b, b]), mid = batches[Math.floor(batches.length / 2)], hs = heatable();
  select($('partsbatch'), bs, parts, mid); parts();
  if (hs.length) { select($('heatpolicy'), hs.map(n => [n, n]), heat); select($('heatbatch'), bs, heat, mid); heat(); } else $('heatbox').remove();
  bestTable(); trust();
} else for (const id of ['gain', 'time', 'parts', 'heat', 'best', 'trust']) { const s = $(id).closest('section'); if (s) s.remove(); }
why();
const allTimelines = timelines();
if (data.config) $('config').textContent = data.config; else $('configbox').remove();
if (location.hash === '#selftest') selftest(allTimelines);

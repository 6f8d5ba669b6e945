'use strict';
/* Timelines on canvas: one panel a policy, all of them on one time axis, so that zooming or moving
 * one moves all. A panel's spans are columns of integers (report/html.c writes them; times in units
 * of 10 ns). */

const classColours = [ // first prefix of a kind's name that fits
  ['router', '#8c8c8c'], ['dispatch', '#0072B2'], ['combine', '#E69F00'], ['gate_up', '#009E73'],
  ['down', '#009E73'], ['silu', '#66c2a4'], ['dense', '#009E73'], ['attn', '#CC79A7'],
  ['mlp', '#882255'], ['', '#56B4E9'],
];
const keyNames = [
  ['dispatch', 'dispatch: send (Ds), receive (Dr)'], ['combine', 'combine: send (Cs), receive (Cr)'],
  ['gate_up', 'expert GEMMs'], ['silu', 'activation'], ['mlp', 'shared expert'], ['attn', 'attention'],
  ['router', 'router'], ['', 'other'],
];
const counterColours = ['#8c8c8c', '#56B4E9', '#D55E00', '#CC79A7'];
const counterNames = ['SMs in use', 'NVLink out', 'NIC out', 'HBM'];
const kindColour = kind => classColours.find(([p]) => kind.startsWith(p))[1];
const partNames = ['fixed', 'SMs', 'HBM', 'push', 'NVLink', 'NIC', 'wait for a peer', 'blocked CTAs'];
const us = t => (t / 100).toFixed(1) + ' µs';

/* Back from the span that ends last: to whose data it waited for, else to what it started after;
 * the rule of trace_path, for the last layer in the file. */
function criticalPath(p) {
  const at = new Map(), on = new Set();
  let s = 0, sender = false;
  for (let i = 0; i < p.n; i++) {
    at.set(p.rank[i] * 100000 + p.op[i], i);
    if (p.end[i] > p.end[s]) s = i;
  }
  for (let steps = 0; s !== undefined && p.n && steps < 2 * p.n; steps++) {
    on.add(s);
    let next;
    if (p.wait[s] > 0 && p.data_rank[s] >= 0 && (!sender || p.data_rank[s] === p.rank[s]))
      next = at.get(p.data_rank[s] * 100000 + p.data_op[s]);
    if (next === s || (next !== undefined && p.start[next] > p.end[s])) next = undefined;
    sender = next !== undefined;
    if (next === undefined && p.cause_op[s] >= 0) next = at.get(p.rank[s] * 100000 + p.cause_op[s]);
    s = next;
  }
  return on;
}

class Timelines {
  constructor(box, panels, tip) {
    this.box = box;
    this.tip = tip;
    this.panels = panels.map(p => this.open(p));
    this.full = Math.max(1, ...panels.map(p => p.last));
    this.from = 0; // at first the panel shown on top fills the width; others may be longer
    this.to = this.first = Math.max(20, panels.length ? panels[0].last * 1.02 : this.full);
    this.full = Math.max(this.full, this.first);
    this.mode = 'slowest';
    this.showPath = this.showLoads = true;
    this.width = 1000;
    new ResizeObserver(() => this.layout()).observe(box);
  }

  open(p) {
    const el = document.createElement('div'), title = document.createElement('div'),
          view = document.createElement('div'), canvas = document.createElement('canvas');
    el.className = 'panel'; title.className = 'title'; view.className = 'view';
    title.textContent = p.title;
    view.append(canvas); el.append(title, view); this.box.append(el);
    p.path = criticalPath(p);
    p.lanes = [...new Set(Array.from({length: p.n}, (_, i) => p.stream[i]))].sort((a, b) => a - b);
    const panel = {p, canvas, drag: null};
    canvas.addEventListener('wheel', e => this.wheel(panel, e), {passive: false});
    canvas.addEventListener('pointerdown', e => { panel.drag = e.offsetX; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener('pointerup', () => { panel.drag = null; });
    canvas.addEventListener('pointermove', e => this.move(panel, e));
    canvas.addEventListener('pointerleave', () => this.hover(panel, -1));
    canvas.addEventListener('dblclick', () => this.reset());
    return panel;
  }

  ranksOf(p) {
    if (this.mode === 'all') return [...Array(p.ranks).keys()];
    return [this.mode === 'slowest' ? p.slowest : Math.min(+this.mode, p.ranks - 1)];
  }

  /* Where every lane lies, from top to bottom; heights suit one rank or many. */
  layout() {
    this.width = Math.max(300, this.box.clientWidth - 2);
    for (const panel of this.panels) {
      const ranks = this.ranksOf(panel.p), many = ranks.length > 1, h = !many ? 26 : panel.p.lanes.length > 1 ? 5 : 10;
      let y = 22;
      panel.rows = [];
      for (const rank of ranks) {
        panel.p.lanes.forEach((stream, i) => {
          panel.rows.push({rank, stream, y, h, label: many ? (i ? '' : 'rank ' + rank) : panel.p.streams[stream] || 'stream ' + stream});
          y += h + (many ? 0 : 3);
        });
        if (many) y += 4;
      }
      panel.loads = [];
      if (this.showLoads)
        for (let c = 0; c < 3; c++)
          if (!many && panel.p.counters[c] && panel.p.counters[c].rank === ranks[0]) {
            panel.loads.push({c, y, h: 34});
            y += 38;
          }
      panel.height = y + 4;
      panel.rowOf = new Map(panel.rows.map((r, i) => [r.rank * 1000 + r.stream, i]));
    }
    this.draw();
  }

  x(t) { return 96 + (t - this.from) / (this.to - this.from) * (this.width - 100); }
  t(x) { return this.from + (x - 96) / (this.width - 100) * (this.to - this.from); }

  draw() { for (const panel of this.panels) this.paint(panel); }

  paint(panel) {
    const {p, canvas} = panel, ratio = window.devicePixelRatio || 1, g = canvas.getContext('2d');
    const style = getComputedStyle(document.body);
    this.fg = style.getPropertyValue('--fg'); this.soft = style.getPropertyValue('--soft');
    this.line = style.getPropertyValue('--line'); this.hot = style.getPropertyValue('--hot');
    canvas.width = this.width * ratio; canvas.height = panel.height * ratio;
    canvas.style.height = panel.height + 'px';
    g.scale(ratio, ratio);
    g.font = '11px system-ui, "DejaVu Sans", sans-serif';
    this.axis(g, panel);
    g.save();
    g.beginPath(); g.rect(96, 0, this.width - 96, panel.height); g.clip();
    const visible = this.spansIn(panel);
    for (const [i, row] of visible) this.span(g, panel, i, row, false);
    if (this.showPath)
      for (const [i, row] of visible) if (p.path.has(i)) this.span(g, panel, i, row, true);
    for (const load of panel.loads) this.load(g, panel, load);
    if (panel.hovered >= 0) this.arrow(g, panel, panel.hovered);
    g.restore();
    g.fillStyle = this.soft; g.textAlign = 'right';
    for (const r of panel.rows) if (r.label) g.fillText(r.label, 90, r.y + Math.min(r.h, 26) / 2 + 4);
    for (const l of panel.loads) {
      const c = p.counters[l.c];
      g.fillText(counterNames[l.c], 90, l.y + 14);
      g.fillText('max ' + c.most.toFixed(0) + (l.c ? ' GB/s' : ''), 90, l.y + 28);
    }
    g.textAlign = 'left';
  }

  spansIn(panel) {
    const {p} = panel, out = [];
    for (let i = 0; i < p.n; i++) {
      const row = panel.rowOf.get(p.rank[i] * 1000 + p.stream[i]);
      if (row !== undefined && p.end[i] >= this.from && p.start[i] <= this.to) out.push([i, panel.rows[row]]);
    }
    return out;
  }

  axis(g, panel) {
    const span = (this.to - this.from) / 100, raw = span / 8, base = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(k => k * base).find(s => s >= raw);
    g.strokeStyle = this.line; g.fillStyle = this.soft; g.textAlign = 'center';
    for (let v = Math.ceil(this.from / 100 / step) * step; v <= this.to / 100; v += step) {
      const x = Math.round(this.x(v * 100)) + 0.5;
      if (x < 96) continue;
      g.beginPath(); g.moveTo(x, 16); g.lineTo(x, panel.height); g.stroke();
      g.fillText((step < 1 ? v.toFixed(1) : v.toFixed(0)) + ' µs', Math.min(x, this.width - 26), 12);
    }
    g.textAlign = 'left';
  }

  span(g, panel, i, row, onPath) {
    const {p} = panel, x0 = this.x(p.start[i]), w = Math.max(0.7, this.x(p.end[i]) - x0);
    if (onPath) {
      g.strokeStyle = this.fg; g.lineWidth = row.h > 10 ? 2 : 1;
      g.strokeRect(x0 + 0.5, row.y + 0.5, Math.max(1, w - 1), row.h - 1);
      return;
    }
    g.globalAlpha = this.showPath && !p.path.has(i) ? 0.45 : 1;
    g.fillStyle = kindColour(p.kinds[p.kind[i]]);
    g.fillRect(x0, row.y, w, row.h);
    if (p.wait[i] > 0 && row.h > 10) { // time inside that was spent waiting: hatched below
      g.fillStyle = this.fg; g.globalAlpha *= 0.3;
      g.fillRect(x0, row.y + row.h - 5, Math.min(w, this.x(p.start[i] + p.wait[i]) - x0), 5);
    }
    g.globalAlpha = 1;
    const label = this.short(p.labels[p.label[i]]);
    if (row.h > 10 && w > 8 + 6.2 * label.length) {
      g.fillStyle = this.showPath && !p.path.has(i) ? this.fg : '#fff';
      g.fillText(label, Math.max(x0, 96) + 4, row.y + 17);
    }
  }

  short(label) {
    return label.replace('dispatch_send', 'Ds').replace('dispatch_recv', 'Dr').replace('combine_send', 'Cs')
      .replace('combine_recv', 'Cr').replace('_gemm', '').replace('silu_mul_quant', 'act');
  }

  load(g, panel, l) {
    const c = panel.p.counters[l.c], top = v => l.y + l.h - v / (c.most || 1) * (l.h - 2);
    g.beginPath(); g.moveTo(this.x(c.t[0] || 0), l.y + l.h);
    for (let i = 0; i < c.t.length; i++) {
      g.lineTo(this.x(c.t[i]), top(c.v[i]));
      g.lineTo(this.x(i + 1 < c.t.length ? c.t[i + 1] : panel.p.last), top(c.v[i]));
    }
    g.lineTo(this.x(panel.p.last), l.y + l.h); g.closePath();
    g.fillStyle = counterColours[l.c]; g.globalAlpha = 0.55; g.fill(); g.globalAlpha = 1;
  }

  /* What the span under the pointer waited for: its data, else what it started after. */
  source(p, i) {
    const rank = p.data_rank[i] >= 0 ? p.data_rank[i] : p.rank[i];
    const op = p.data_rank[i] >= 0 ? p.data_op[i] : p.cause_op[i];
    for (let k = 0; k < p.n; k++) if (p.rank[k] === rank && p.op[k] === op) return k;
    return -1;
  }

  arrow(g, panel, i) {
    const {p} = panel, from = this.source(p, i);
    const row = k => panel.rows[panel.rowOf.get(p.rank[k] * 1000 + p.stream[k])];
    g.strokeStyle = this.hot; g.lineWidth = 2;
    const b = row(i);
    if (b) g.strokeRect(this.x(p.start[i]), b.y, Math.max(2, this.x(p.end[i]) - this.x(p.start[i])), b.h);
    if (from < 0 || !b || !row(from)) return;
    const a = row(from);
    g.beginPath(); g.moveTo(this.x(p.end[from]), a.y + a.h / 2);
    g.lineTo(this.x(p.data_rank[i] >= 0 ? p.end[i] : p.start[i]), b.y + b.h / 2); g.stroke();
  }

  spanAt(panel, x, y) {
    let best = -1, near = 4;
    const row = panel.rows.find(r => y >= r.y && y < r.y + r.h);
    if (!row) return -1;
    const {p} = panel;
    for (let i = 0; i < p.n; i++) {
      if (p.rank[i] !== row.rank || p.stream[i] !== row.stream) continue;
      const away = Math.max(this.x(p.start[i]) - x, x - this.x(p.end[i]), 0);
      if (away < near) { near = away; best = i; }
    }
    return best;
  }

  words(panel, i) {
    const {p} = panel, from = this.source(p, i), lines = [];
    lines.push(p.labels[p.label[i]] + '  ·  rank ' + p.rank[i] + ', ' + (p.streams[p.stream[i]] || p.stream[i]));
    lines.push(us(p.start[i]) + ' to ' + us(p.end[i]) + '  (' + us(p.end[i] - p.start[i]) + ')' + (p.path.has(i) ? '  on the critical path' : ''));
    lines.push((p.round[i] >= 0 ? 'round ' + p.round[i] + ', ' : '') + (p.sms[i] ? p.sms[i] + ' SMs, ' : '') + p.rows[i] + ' rows' + (p.bytes[i] ? ', ' + (p.bytes[i] / 1e6).toFixed(2) + ' MB sent' : ''));
    const parts = partNames.map((n, k) => [n, p['part' + k][i]]).filter(([, v]) => v > 0).map(([n, v]) => n + ' ' + us(v));
    if (parts.length) lines.push(parts.join(', '));
    if (from >= 0) lines.push((p.data_rank[i] >= 0 ? 'waited for data of ' : 'started after ') + p.labels[p.label[from]] + ' of rank ' + p.rank[from] + ' (' + p.causes[p.cause[i]] + ')');
    return lines.join('\n');
  }

  hover(panel, i, e) {
    if (panel.hovered !== i) { panel.hovered = i; this.paint(panel); }
    this.tip.style.display = i >= 0 ? 'block' : 'none';
    if (i < 0) return;
    this.tip.textContent = this.words(panel, i);
    this.tip.style.left = Math.min(e.clientX + 14, window.innerWidth - 430) + 'px';
    this.tip.style.top = Math.min(e.clientY + 16, window.innerHeight - 130) + 'px';
  }

  move(panel, e) {
    if (panel.drag !== null) {
      const d = this.t(panel.drag) - this.t(e.offsetX);
      panel.drag = e.offsetX;
      this.show(this.from + d, this.to + d);
      return;
    }
    this.hover(panel, this.spanAt(panel, e.offsetX, e.offsetY), e);
  }

  wheel(panel, e) {
    if (e.shiftKey) return; // the page scrolls
    e.preventDefault();
    const t = this.t(e.offsetX), k = Math.exp(e.deltaY * 0.0015);
    this.show(t - (t - this.from) * k, t + (this.to - t) * k);
  }

  show(from, to) {
    const width = Math.min(this.full, Math.max(20, to - from));
    this.from = Math.max(0, Math.min(from, this.full - width));
    this.to = this.from + width;
    this.draw();
  }

  reset() { this.show(0, this.first); }
  all() { this.show(0, this.full); }
}

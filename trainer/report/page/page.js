// Draws a report from the JSON in #data. Every text that comes from outside becomes a text node, never HTML.
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const main = document.getElementById('main');
  const charts = [];
  const redraw = [];
  const PALETTE = ['#2f7ed8', '#e06c2b', '#2ca02c', '#b03a8c', '#8a6d1f', '#17a2b8', '#d62728', '#7f6fd0',
    '#6b8e23', '#888888'];
  const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3]];

  // --- elements

  function make(tag, text, className) {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = String(text);
    if (className) element.className = className;
    return element;
  }

  function section(title) {
    const element = make('section');
    element.append(make('h2', title));
    main.append(element);
    return element;
  }

  function grid(parent) {
    const element = make('div', null, 'plots');
    parent.append(element);
    return element;
  }

  function isNumber(value) {
    return typeof value === 'number' && Number.isFinite(value);
  }

  function show(value, digits = 5) {
    if (value === null || value === undefined || value === '') return '-';
    if (!isNumber(value)) return String(value);
    if (Number.isInteger(value)) return Math.abs(value) < 1e6 ? String(value) : value.toLocaleString('en');
    const size = Math.abs(value);
    const extreme = size !== 0 && (size < 1e-3 || size >= 1e6);
    return extreme ? value.toExponential(2) : String(Number(value.toPrecision(digits)));
  }

  function short(value) {
    const size = Math.abs(value);
    for (const [unit, letter] of [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'K']]) {
      if (size >= unit) return Number((value / unit).toPrecision(3)) + letter;
    }
    return show(value, 3);
  }

  // --- sortable tables: columns [{key, head, text}], rows are objects by key

  function compare(a, b, direction) {
    const unknown = (value) => value === null || value === undefined || value === '';
    if (unknown(a) || unknown(b)) return unknown(a) - unknown(b);
    const order = isNumber(a) && isNumber(b) ? a - b : String(a).localeCompare(String(b), 'en', {numeric: true});
    return direction * order;
  }

  function table(parent, columns, rows) {
    const scroll = make('div', null, 'scroll');
    const element = make('table', null, 'sortable');
    const head = element.createTHead().insertRow();
    const body = element.createTBody();
    const fill = (ordered) => {
      body.replaceChildren(...ordered.map((row) => {
        const line = make('tr');
        for (const column of columns) {
          const text = show(row[column.key]);
          line.append(make('td', text, column.text ? (text.length > 48 ? 'text' : 'text short') : 'short'));
        }
        return line;
      }));
    };
    columns.forEach((column) => {
      const cell = make('th', null, column.text ? 'text' : '');
      const button = make('button', column.head);
      button.type = 'button';
      button.addEventListener('click', () => {
        const down = cell.getAttribute('aria-sort') === 'ascending';
        for (const other of head.cells) other.removeAttribute('aria-sort');
        cell.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        fill([...rows].sort((a, b) => compare(a[column.key], b[column.key], down ? -1 : 1)));
      });
      cell.append(button);
      head.append(cell);
    });
    fill(rows);
    scroll.append(element);
    parent.append(scroll);
  }

  // --- charts

  function css(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  const errorBars = {
    id: 'errorBars',
    afterDatasetsDraw(chart) {
      const {ctx, scales} = chart;
      chart.data.datasets.forEach((dataset, index) => {
        if (!chart.isDatasetVisible(index)) return;
        ctx.save();
        ctx.strokeStyle = dataset.borderColor;
        ctx.lineWidth = 1.5;
        for (const point of dataset.data) {
          if (!isNumber(point.sd) || point.sd === 0) continue;
          const x = scales.x.getPixelForValue(point.x);
          const low = scales.y.getPixelForValue(point.y - point.sd);
          const high = scales.y.getPixelForValue(point.y + point.sd);
          ctx.beginPath();
          for (const [x0, y0, x1, y1] of [[x, low, x, high], [x - 4, low, x + 4, low], [x - 4, high, x + 4, high]]) {
            ctx.moveTo(x0, y0);
            ctx.lineTo(x1, y1);
          }
          ctx.stroke();
        }
        ctx.restore();
      });
    },
  };

  function paint(chart) {
    const text = css('--text'), line = css('--line');
    for (const scale of Object.values(chart.options.scales)) {
      scale.ticks.color = text;
      scale.title.color = text;
      scale.grid.color = line;
    }
    chart.options.plugins.legend.labels.color = text;
  }

  function axis(title, logarithmic, grace) {
    return {
      type: logarithmic ? 'logarithmic' : 'linear',
      title: {display: true, text: title},
      ticks: {callback: (value) => short(value), maxTicksLimit: 8, maxRotation: 0},
      grid: {},
      grace: grace || 0,
    };
  }

  // datasets: [{label, points: [{x, y, sd}], color, dash, dots}]; options: {x, y, logx, logy, note}
  function chart(parent, title, datasets, options) {
    const figure = make('figure');
    const caption = make('figcaption', title);
    if (options.note) caption.append(' ', make('small', options.note));
    const box = make('div', null, 'plot');
    const canvas = make('canvas');
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', title);
    box.append(canvas);
    figure.append(caption, box);
    parent.append(figure);
    const bars = datasets.flatMap((set) => set.points).filter((point) => isNumber(point.sd));
    const ends = bars.length === 0 ? {} : {
      suggestedMin: Math.min(...bars.map((point) => point.y - point.sd)),
      suggestedMax: Math.max(...bars.map((point) => point.y + point.sd)),
    };
    const made = new Chart(canvas, {
      type: 'line',
      plugins: [errorBars],
      data: {
        datasets: datasets.map((set) => ({
          label: set.label,
          data: set.points,
          borderColor: set.color,
          backgroundColor: set.color,
          borderDash: set.dash || [],
          borderWidth: 1.5,
          showLine: !set.dots,
          pointRadius: set.dots ? 4 : (set.points.length < 40 ? 2.5 : 0),
          pointHitRadius: 6,
        })),
      },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        normalized: true,
        interaction: {mode: 'nearest', intersect: false},
        scales: {
          x: axis(options.x, options.logx),
          y: {...axis(options.y, options.logy, datasets.some((set) => set.dots) ? '5%' : 0), ...ends},
        },
        plugins: {
          legend: {display: datasets.length > 1, labels: {boxWidth: 18, boxHeight: 2}},
          tooltip: {callbacks: {
            title: () => '',
            label: (item) => `${item.dataset.label}: ${show(item.parsed.y)} at ${show(item.parsed.x)}` +
                (item.raw.name ? ` (${item.raw.name})` : '') +
                (isNumber(item.raw.sd) ? ` \u00b1 ${show(item.raw.sd, 2)}` : ''),
          }},
        },
      },
    });
    made.marks = () => datasets.reduce((sum, set) => sum + set.points.length, 0);
    paint(made);
    made.update('none');
    charts.push(made);
    return made;
  }

  // --- heat maps: rows and columns of labels, values [row][column] in 0..1 of `top`

  function heatMap(parent, title, rowHead, rows, columnHead, columns, values, note) {
    const figure = make('figure');
    const caption = make('figcaption', title);
    if (note) caption.append(' ', make('small', note));
    const scroll = make('div', null, 'scroll');
    const element = make('table', null, 'heat');
    const head = element.createTHead().insertRow();
    head.append(make('th', `${rowHead} \\ ${columnHead}`), ...columns.map((column) => make('th', show(column))));
    const body = element.createTBody();
    rows.forEach((row, r) => {
      const line = body.insertRow();
      line.append(make('th', show(row)));
      columns.forEach((column, c) => {
        const value = values[r][c];
        const cell = make('td', isNumber(value) ? value.toFixed(2) : '');
        if (isNumber(value)) {
          cell.style.backgroundColor = `rgba(var(--heat), ${Math.min(Math.max(value, 0), 1) * 0.75})`;
          cell.title = `${rowHead} ${show(row)}, ${columnHead} ${show(column)}: ${show(value)}`;
        }
        line.append(cell);
      });
    });
    scroll.append(element);
    figure.append(caption, scroll);
    parent.append(figure);
  }

  // --- runs

  const color = (index) => PALETTE[index % PALETTE.length];

  function along() {
    return document.querySelector('input[name="along"]:checked').value;
  }

  const ALONG = {tokens: 'tokens', hours: 'hours of training', step: 'updates'};
  const GROUPS = [
    {title: 'Training loss', names: ['loss'], y: 'nats a token', loss: true},
    {title: 'Validation loss', prefix: 'validation_loss/', y: 'nats a token', loss: true},
    {title: 'Training loss by source', prefix: 'loss_by_source/', y: 'nats a token', loss: true},
    {title: 'Task accuracy', prefix: 'task_accuracy/', y: 'accuracy'},
    {title: 'Learning rate', names: ['lr'], y: 'learning rate'},
    {title: 'Gradient norm', names: ['grad_norm'], y: 'L2 norm before clipping', logy: true},
    {title: 'Speed', names: ['tokens_per_second'], y: 'tokens a second'},
    {title: 'Model FLOPs utilisation', names: ['mfu'], y: 'share of the peak'},
    {title: 'Memory', names: ['memory'], y: 'GiB', scale: 1 / 2 ** 30},
    {title: 'Updates until a task was solved', prefix: 'solved_at/', y: 'update', hidden: true},
    {title: 'Waits', names: ['data_wait_ms', 'comm_wait_ms'], y: 'ms an update'},
  ];

  function curvesOf(group) {
    const found = [];
    data.runs.forEach((run, index) => {
      let dash = 0;
      for (const curve of run.curves) {
        const member = group.prefix ? curve.name.startsWith(group.prefix) : group.names.includes(curve.name);
        if (!member) continue;
        const part = group.prefix ? curve.name.slice(group.prefix.length) : curve.name;
        const several = group.prefix || group.names.length > 1;
        const many = data.runs.length > 1;
        const label = many ? run.name + (several ? ', ' + part : '') : (several ? part : run.name);
        found.push({curve, label, color: color(many ? index : dash), dash: DASHES[dash % DASHES.length]});
        ++dash;
      }
    });
    return found;
  }

  function drawGroup(parent, group) {
    const curves = curvesOf(group);
    if (curves.length === 0) return;
    const points = (curve, x) => curve.value
        .map((y, i) => ({x: curve[x][i], y: y * (group.scale || 1)}))
        .filter((point) => isNumber(point.x) && isNumber(point.y));
    const made = chart(parent, group.title,
        curves.map((one) => ({label: one.label, color: one.color, dash: one.dash, points: points(one.curve, along())})),
        {x: ALONG[along()], y: group.y, logy: group.logy});
    redraw.push(() => {
      const x = along();
      curves.forEach((one, i) => { made.data.datasets[i].data = points(one.curve, x); });
      made.options.scales.x.type = document.getElementById('logx').checked ? 'logarithmic' : 'linear';
      if (group.loss) made.options.scales.y.type = document.getElementById('logy').checked ? 'logarithmic' : 'linear';
      made.options.scales.x.title.text = ALONG[x];
      made.update('none');
    });
  }

  function drawCurves() {
    if (!data.runs.some((run) => run.curves.length > 0)) return;
    const plots = grid(section('Training'));
    for (const group of GROUPS.filter((one) => !one.hidden)) drawGroup(plots, group);
    const isIn = (name, group) => group.prefix ? name.startsWith(group.prefix) : group.names.includes(name);
    const names = data.runs.flatMap((run) => run.curves.map((curve) => curve.name));
    const others = new Set(names.filter((name) => !GROUPS.some((group) => isIn(name, group))));
    for (const name of [...others].sort()) drawGroup(plots, {title: name, names: [name], y: name});
  }

  function lastOf(run, name) {
    const curve = run.curves.find((one) => one.name === name);
    return curve ? curve.value[curve.value.length - 1] : null;
  }

  function drawRuns() {
    if (data.runs.length === 0) return;
    const parent = section(data.runs.length > 1 ? 'Runs' : 'The run');
    const named = [...new Set(data.runs.flatMap((run) => run.curves.map((curve) => curve.name)))]
        .filter((name) => /^(validation_loss|task_accuracy|solved_at)\//.test(name)).sort();
    const columns = [{key: 'name', head: 'run', text: true}, {key: 'updates', head: 'updates'},
      {key: 'tokens', head: 'tokens'}, {key: 'hours', head: 'hours'}, {key: 'speed', head: 'tokens/s'},
      {key: 'loss', head: 'loss'},
      ...named.map((name) => ({key: name, head: name.replace('/', ' ').replace(/_/g, ' '), text: false})),
      {key: 'folder', head: 'folder', text: true}];
    table(parent, columns, data.runs.map((run) => {
      const row = {name: run.name, updates: run.updates, tokens: run.tokens, hours: run.hours,
        speed: run.tokens_per_second, loss: lastOf(run, 'loss'), folder: run.folder};
      for (const name of named) row[name] = lastOf(run, name);
      return row;
    }));
    const notes = make('ul', null, 'notes');
    for (const run of data.runs) {
      for (const note of run.notes) notes.append(make('li', `${run.name}: ${note}`));
      for (const file of run.files) notes.append(make('li', `${run.name}: read ${file.file}`));
    }
    if (notes.childElementCount > 0) parent.append(notes);
  }

  // --- what eval and inspect wrote

  function filesOf(kind) {
    return data.runs.flatMap((run, index) => run.files.filter((file) => file.kind === kind)
        .map((file) => ({run, file, data: file.data, index})));
  }

  const fileLabel = (one) => data.runs.length > 1 ? `${one.run.name}, ${one.file.file}` : one.file.file;

  // Means of runs of positions that grow with the position, so that both ends of a long sequence show.
  function positionPoints(losses) {
    const points = [];
    for (let begin = 0; begin < losses.length;) {
      const end = Math.min(losses.length, Math.max(begin + 1, Math.ceil(begin * 1.08)));
      const known = losses.slice(begin, end).filter(isNumber);
      if (known.length > 0) points.push({x: (begin + end + 1) / 2, y: known.reduce((a, b) => a + b, 0) / known.length});
      begin = end;
    }
    return points;
  }

  function drawPositions() {
    const files = filesOf('positions');
    if (files.length === 0) return;
    const plots = grid(section('Loss by position'));
    chart(plots, 'Loss by position', files.map((one, i) => ({
      label: fileLabel(one), color: color(i), points: positionPoints(one.data.by_position),
    })), {
      x: 'position in the sequence', y: 'nats a token', logx: true,
      note: 'read from: ' + files.map(fileLabel).join('; '),
    });
  }

  function distinct(rows, key) {
    return [...new Set(rows.map((row) => row[key]))].sort((a, b) => compare(a, b, 1));
  }

  // {length, depth, accuracy} of all files.
  function lengthsAndDepths(files) {
    const list = (value) => Array.isArray(value) ? value : [];
    return files.flatMap((one) => list(one.data.by_length_and_depth).flatMap((row) =>
      list(row.depths).map((depth) => ({length: row.length, depth: depth.value, accuracy: depth.accuracy}))));
  }

  function drawTaskHeat(plots, title, files) {
    const cells = lengthsAndDepths(files);
    if (cells.length === 0) return;
    const rows = distinct(cells, 'length'), columns = distinct(cells, 'depth');
    const at = (row, column) => cells.find((cell) => cell.length === row && cell.depth === column)?.accuracy;
    heatMap(plots, title, 'length', rows, 'depth', columns, rows.map((row) => columns.map((column) => at(row, column))),
        'read from: ' + files.map(fileLabel).join('; '));
  }

  function drawTasks() {
    const files = filesOf('task');
    if (files.length === 0) return;
    const parent = section('Tasks');
    table(parent, [{key: 'file', head: 'read from', text: true}, {key: 'task', head: 'task', text: true},
      {key: 'accuracy', head: 'accuracy'}, {key: 'samples', head: 'samples'}, {key: 'kv_bytes', head: 'cache bytes'}],
    files.map((one) => ({file: fileLabel(one), task: one.data.task, accuracy: one.data.accuracy,
      samples: one.data.samples, kv_bytes: one.data.kv_bytes})));
    const plots = grid(parent);
    for (const task of distinct(files.map((one) => ({task: String(one.data.task)})), 'task')) {
      const same = files.filter((one) => String(one.data.task) === task);
      for (const by of [...new Set(same.flatMap((one) => Object.keys(one.data.by)))].sort()) {
        const sets = same.map((one, i) => ({
          label: fileLabel(one),
          color: color(i),
          points: (Array.isArray(one.data.by[by]) ? one.data.by[by] : [])
              .filter((row) => row && isNumber(row.value) && isNumber(row.accuracy))
              .map((row) => ({x: row.value, y: row.accuracy})),
        })).filter((set) => set.points.length > 0);
        const xs = sets.flatMap((set) => set.points.map((point) => point.x));
        const wide = Math.max(...xs) > 64 && Math.min(...xs) > 0;
        if (sets.length > 0) chart(plots, `${task}: accuracy by ${by}`, sets, {x: by, y: 'accuracy', logx: wide});
      }
      for (const run of new Set(same.map((one) => one.run))) {
        drawTaskHeat(plots, `${task}: accuracy by length and depth` + (data.runs.length > 1 ? `, ${run.name}` : ''),
            same.filter((one) => one.run === run));
      }
    }
  }

  function summaryShare(share) {
    return (share.summaries_by_age || []).reduce((sum, age) => sum + (isNumber(age.share) ? age.share : 0), 0);
  }

  function drawAges(plots, one, layers) {
    const sets = distinct(layers, 'layer').map((layer, i) => {
      const heads = layers.filter((entry) => entry.layer === layer);
      const ages = heads[0].share.summaries_by_age || [];
      return {
        label: `layer ${layer}`,
        color: color(i),
        dash: DASHES[Math.floor(i / PALETTE.length) % DASHES.length],
        points: ages.map((age, a) => ({
          x: (age.from + age.to) / 2,
          y: heads.reduce((sum, entry) => sum + ((entry.share.summaries_by_age[a] || {}).share || 0), 0) / heads.length,
        })),
      };
    }).filter((set) => set.points.length > 0);
    if (sets.length > 0) {
      chart(plots, 'Attention on summaries by age', sets,
          {x: 'age in chunks', y: 'share of attention', logx: true, note: 'mean over the heads; ' + fileLabel(one)});
    }
  }

  function drawAttention() {
    for (const one of filesOf('attention')) {
      const layers = one.data.layers.filter((entry) => entry && entry.share);
      const parent = section('Attention: ' + fileLabel(one));
      const plots = grid(parent);
      const rows = distinct(layers, 'layer'), columns = distinct(layers, 'head');
      for (const [title, value] of [['on summaries', (share) => summaryShare(share)],
        ['on the text of the window', (share) => share.window], ['on its own chunk', (share) => share.own]]) {
        const at = (row, column) => {
          const entry = layers.find((other) => other.layer === row && other.head === column);
          return entry ? value(entry.share) : null;
        };
        heatMap(plots, `Share of attention ${title}`, 'layer', rows, 'head', columns,
            rows.map((row) => columns.map((column) => at(row, column))), 'read from: ' + fileLabel(one));
      }
      drawAges(plots, one, layers);
      const top = layers.flatMap((entry) =>
        (entry.top || []).map((summary) => ({layer: entry.layer, head: entry.head, ...summary})));
      if (top.length === 0) continue;
      parent.append(make('h3', 'The most used summaries, and the text they stand for'));
      table(parent, [{key: 'layer', head: 'layer'}, {key: 'head', head: 'head'}, {key: 'chunk', head: 'chunk'},
        {key: 'share', head: 'share'}, {key: 'text', head: 'text', text: true}],
      top.sort((a, b) => compare(a.share, b.share, -1)).slice(0, 60));
    }
  }

  // --- sweeps

  function drawSweepPlots(plots, sweep, key, title, y) {
    const means = Array.isArray(sweep.means) && sweep.means.some((row) => isNumber(row[key + '_mean']));
    const rows = means ? sweep.means : sweep.rows;
    const points = rows.map((row) => ({
      name: row.cell,
      x: (means ? row.kv_bytes_a_token_mean : row.kv_bytes_a_token) * (sweep.kv_length || 1),
      y: means ? row[key + '_mean'] : row[key],
      sd: means ? row[key + '_sd'] : null,
    })).filter((point) => isNumber(point.x) && point.x > 0 && isNumber(point.y));
    if (points.length === 0) return;
    chart(plots, title, points.map((point, i) => ({label: point.name, color: color(i), dots: true, points: [point]})), {
      x: `cache bytes a sequence of ${show(sweep.kv_length)} tokens`, y, logx: true,
      note: means ? `bars: standard deviation over ${(sweep.mean_over || []).join(', ')}` : '',
    });
  }

  function drawSweeps() {
    for (const sweep of data.sweeps) {
      const parent = section('Sweep ' + sweep.sweep);
      if (sweep.select) {
        const over = (sweep.select.over || []).join(', ');
        parent.append(make('p', `Of cells that differ in ${over} the best by ${sweep.select.by} is kept.`, 'soft'));
      }
      const plots = grid(parent);
      drawSweepPlots(plots, sweep, 'validation_loss', 'Validation loss against cache', 'nats a token');
      const keys = [...new Set(sweep.rows.flatMap((row) => Object.keys(row)))];
      for (const key of keys.filter((name) => name.startsWith('task_accuracy_'))) {
        drawSweepPlots(plots, sweep, key, `Accuracy of ${key.slice(14)} against cache`, 'accuracy');
      }
      const texts = ['cell', 'status', 'choice'];
      for (const [title, rows] of [['Means', sweep.means || []], ['Cells', sweep.rows]]) {
        if (rows.length === 0) continue;
        parent.append(make('h3', title));
        const columns = Object.keys(rows[0])
            .map((key) => ({key, head: key.replace(/_/g, ' '), text: texts.includes(key)}));
        table(parent, columns, rows);
      }
    }
  }

  function drawConfigurations() {
    const rows = data.differences.length > 0 ? data.differences : data.config || [];
    if (rows.length === 0) return;
    const parent = section(data.runs.length > 1 ? 'What differs in the configurations' : 'Configuration');
    const names = data.runs.map((run, i) => ({key: 'v' + i, head: run.name, text: true}));
    table(parent, [{key: 'key', head: 'key', text: true}, ...names], rows.map((row) => {
      const cells = {key: row.key};
      row.values.forEach((value, i) => { cells['v' + i] = value; });
      return cells;
    }));
  }

  // --- themes and paper

  function setTheme(theme) {
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    for (const one of charts) {
      paint(one);
      one.update('none');
    }
  }

  function listen() {
    for (const input of document.querySelectorAll('input[name="theme"]')) {
      input.addEventListener('change', () => setTheme(input.value));
    }
    for (const input of document.querySelectorAll('input[name="along"], #logx, #logy')) {
      input.addEventListener('change', () => redraw.forEach((draw) => draw()));
    }
    const chosen = () => document.querySelector('input[name="theme"]:checked').value;
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => setTheme(chosen()));
    addEventListener('beforeprint', () => {
      setTheme('light');
      charts.forEach((one) => one.resize());
    });
    addEventListener('afterprint', () => setTheme(chosen()));
    const asked = {'#dark': 'dark', '#light': 'light'}[location.hash];
    if (asked) {
      document.querySelector(`input[name="theme"][value="${asked}"]`).checked = true;
      setTheme(asked);
    }
  }

  document.getElementById('title').textContent = data.title;
  document.getElementById('subtitle').textContent =
      `${data.runs.length} run${data.runs.length === 1 ? '' : 's'}, drawn by ksa ${data.version}`;
  for (const note of data.notes) document.getElementById('notes').append(make('li', note));
  drawSweeps();
  drawRuns();
  drawCurves();
  drawPositions();
  drawTasks();
  drawAttention();
  drawConfigurations();
  listen();
  // For whoever looks at the page with a program: how much was drawn.
  document.documentElement.dataset.charts = charts.length;
  document.documentElement.dataset.marks = charts.reduce((sum, one) => sum + one.marks(), 0);
})();

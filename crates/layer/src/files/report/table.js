// The files as rows, of which only those in sight are elements.
const HEIGHT = 20;
// Browsers stop at some 30 million pixels; beyond that the scroll bar is scaled.
const TALLEST = 15e6;
const rows = byId('rows');
let shown = [];
let at = -1;
let order = { key: 'path', down: false };

const COLUMNS = [
	['layer', 'Layer', i => P.layer[i]],
	['mode', 'Mode', i => mode(i)],
	['owner', 'Owner', i => P.owners[P.owner[i]]],
	['time', 'Modified', i => P.mtime[i]],
	['size', 'Size', i => P.size[i]],
	['wasted', 'Wasted', i => P.wasted[i]],
	['path', 'Path', i => i],
];

function matcher(text) {
	const pattern = /^\/(.*)\/$/.exec(text);
	if (pattern && pattern[1]) {
		try {
			const regex = new RegExp(pattern[1], 'i');
			return i => regex.test(paths[i]);
		} catch {
			return () => false;
		}
	}
	const part = text.toLowerCase();
	return i => lower[i].includes(part);
}

function filter() {
	const matches = matcher(byId('filter').value);
	const gone = byId('gone').checked, lost = byId('lost').checked;
	shown = [];
	for (let i = 0; i < COUNT; i++) {
		if (P.layer[i] < 0 && !gone && !lost) continue;
		if (lost && P.wasted[i] === 0) continue;
		if (state.layer >= 0 && P.layer[i] !== state.layer && !P.story[i]?.some(step => step[0] === state.layer)) continue;
		if (matches(i)) shown.push(i);
	}
	const value = COLUMNS.find(([key]) => key === order.key)[2];
	// Paths stand in order already.
	if (order.key !== 'path') {
		const values = new Map(shown.map(i => [i, value(i)]));
		shown.sort((a, b) => {
			const x = values.get(a), y = values.get(b);
			return x < y ? -1 : x > y ? 1 : a - b;
		});
	}
	if (order.down) shown.reverse();
	at = shown.indexOf(state.path);
	byId('count').textContent = `${shown.length} of ${COUNT}`;
	byId('space').style.height = Math.min(shown.length * HEIGHT, TALLEST) + 'px';
	rows.setAttribute('aria-rowcount', shown.length);
	render();
}

// How many pixels of the table one pixel of the scroll bar stands for.
function scale() {
	const height = rows.clientHeight;
	return Math.max(1, (shown.length * HEIGHT - height) / Math.max(1, Math.min(shown.length * HEIGHT, TALLEST) - height));
}

function row(i, number) {
	const cell = (text, kind = '') => element('span', { className: kind, textContent: text });
	const chip = element('span', { className: 'chip' });
	chip.style.setProperty('--color', color(P.layer[i]));
	const made = element('div', { className: P.layer[i] < 0 ? 'row gone' : 'row', id: `row-${i}` },
		element('span', {}, chip, P.layer[i] < 0 ? '' : String(P.layer[i])),
		cell(mode(i)), cell(P.owners[P.owner[i]]), cell(new Date(P.mtime[i] * 1000).toISOString().slice(0, 10)),
		cell(P.kind[i] === '-' ? human(P.size[i]) : '', 'number'), cell(P.wasted[i] ? human(P.wasted[i]) : '', 'number'),
		cell(paths[i] + (P.target[i] === undefined ? '' : ` → ${P.target[i]}`)));
	made.setAttribute('role', 'row');
	made.setAttribute('aria-rowindex', number + 1);
	made.setAttribute('aria-selected', number === at);
	made.dataset.path = i;
	return made;
}

function render() {
	const top = rows.scrollTop * scale();
	const first = Math.max(0, Math.floor(top / HEIGHT) - 5);
	const last = Math.min(shown.length, first + Math.ceil(rows.clientHeight / HEIGHT) + 10);
	const made = [];
	for (let number = first; number < last; number++) made.push(row(shown[number], number));
	byId('view').style.transform = `translateY(${rows.scrollTop - (top - first * HEIGHT)}px)`;
	byId('view').replaceChildren(...made);
	if (at >= 0) rows.setAttribute('aria-activedescendant', `row-${shown[at]}`);
}

function go(number) {
	if (shown.length === 0) return;
	at = Math.max(0, Math.min(shown.length - 1, number));
	const top = at * HEIGHT, height = rows.clientHeight, now = rows.scrollTop * scale();
	if (top < now) rows.scrollTop = top / scale();
	else if (top + HEIGHT > now + height) rows.scrollTop = (top + HEIGHT - height) / scale();
	choose({ path: shown[at] });
}

function heads() {
	const head = ([key, text]) => element('button', {
		type: 'button', className: ['size', 'wasted'].includes(key) ? 'number' : '',
		textContent: text + (order.key === key ? (order.down ? ' ↓' : ' ↑') : ''),
		onclick: () => {
			order = { key, down: order.key === key ? !order.down : ['size', 'wasted'].includes(key) };
			heads();
			filter();
		},
	});
	byId('head').replaceChildren(...COLUMNS.map(head));
}

let waiting = 0;
byId('filter').addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(filter, 80); });
byId('filters').addEventListener('submit', event => { event.preventDefault(); filter(); rows.focus(); });
byId('gone').addEventListener('change', filter);
byId('lost').addEventListener('change', filter);
rows.addEventListener('scroll', render);
rows.addEventListener('click', event => {
	const found = event.target.closest('.row');
	if (found) go(shown.indexOf(Number(found.dataset.path)));
});
rows.addEventListener('keydown', event => {
	const page = Math.max(1, Math.floor(rows.clientHeight / HEIGHT) - 1);
	const moves = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: shown.length - 1 };
	if (event.key in moves) go(moves[event.key]);
	else if (event.key === 'Enter' && at >= 0) choose({ path: shown[at], dir: P.kind[shown[at]] === 'd' ? shown[at] : P.parent[shown[at]] });
	else return;
	event.preventDefault();
});
listeners.push(changes => {
	if ('layer' in changes) filter();
	else if ('path' in changes) { at = shown.indexOf(state.path); render(); }
});
new ResizeObserver(render).observe(rows);

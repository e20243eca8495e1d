// The merged root as areas: squarified (Bruls, Huizing, van Wijk), two levels of directories with a frame, colored by layer.
const canvas = byId('treemap');
const tiles = { list: [], at: -1 };

// Lays out `items` with their sizes in `area` and calls `place` for each.
function squarify(items, area, place) {
	let { x, y, w, h } = area;
	let left = items.reduce((sum, i) => sum + total[i], 0);
	let start = 0;
	while (start < items.length && left > 0 && w > 0 && h > 0) {
		const side = Math.min(w, h);
		const scale = w * h / left;
		let end = start, sum = 0, worst = Infinity;
		while (end < items.length) {
			const next = sum + total[items[end]];
			const largest = total[items[start]], smallest = total[items[end]];
			const thick = next * scale / side;
			const ratio = Math.max(largest * scale / thick / thick, thick * thick / Math.max(smallest * scale, 1e-9));
			if (ratio > worst) break;
			worst = ratio; sum = next; end++;
		}
		const thick = sum * scale / side;
		let along = 0;
		for (; start < end; start++) {
			const long = total[items[start]] * scale / thick;
			if (w >= h) place(items[start], x, y + along, thick, long);
			else place(items[start], x + along, y, long, thick);
			along += long;
		}
		if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
		left -= sum;
	}
}

function sorted(dir) {
	return (children[dir] ?? []).filter(i => total[i] > 0).sort((a, b) => total[b] - total[a]);
}

function draw() {
	const ratio = devicePixelRatio || 1;
	const width = canvas.clientWidth, height = canvas.clientHeight;
	canvas.width = Math.round(width * ratio);
	canvas.height = Math.round(height * ratio);
	const context = canvas.getContext('2d');
	context.scale(ratio, ratio);
	const style = getComputedStyle(document.body);
	const back = style.getPropertyValue('--back'), front = style.getPropertyValue('--front');
	context.fillStyle = back;
	context.fillRect(0, 0, width, height);
	context.font = '11px system-ui, sans-serif';
	context.textBaseline = 'top';
	tiles.list = [];
	const layout = (dir, area, depth) => squarify(sorted(dir), area, (i, x, y, w, h) => {
		if (w < 1 || h < 1) return;
		if (depth === 0) tiles.list.push({ i, x, y, w, h });
		const inside = P.kind[i] === 'd' && w > 14 && h > 24;
		const faded = state.layer >= 0 && P.layer[i] !== state.layer;
		context.globalAlpha = faded ? .18 : 1;
		context.fillStyle = P.kind[i] === 'd' ? back : color(P.layer[i]);
		if (P.kind[i] === 'd' && !inside) context.fillStyle = color(largest(i));
		context.fillRect(x, y, w, h);
		context.globalAlpha = 1;
		context.strokeStyle = back;
		context.lineWidth = depth === 0 ? 1.5 : .5;
		context.strokeRect(x, y, w, h);
		if (inside) {
			layout(i, { x: x + 2, y: y + 14, w: w - 4, h: h - 16 }, depth + 1);
			label(P.name[i] + '/', x, y, w, front);
		} else if (w > 40 && h > 14) {
			label(P.name[i], x, y, w, dark.matches ? '#fff' : '#000');
		}
	});
	const label = (text, x, y, w, fill) => {
		context.save();
		context.beginPath();
		context.rect(x, y, w - 2, 14);
		context.clip();
		context.fillStyle = fill;
		context.fillText(text, x + 3, y + 2);
		context.restore();
	};
	layout(state.dir, { x: 0, y: 0, w: width, h: height }, 0);
	const chosen = tiles.list[tiles.at];
	if (chosen) {
		context.strokeStyle = style.getPropertyValue('--accent');
		context.lineWidth = 3;
		context.strokeRect(chosen.x + 1, chosen.y + 1, chosen.w - 2, chosen.h - 2);
	}
}

// The layer of the largest file below a directory too small to show.
function largest(i) {
	while (P.kind[i] === 'd') {
		const inside = sorted(i);
		if (inside.length === 0) return -1;
		i = inside[0];
	}
	return P.layer[i];
}

function crumbs() {
	const line = [];
	for (let i = state.dir; ; i = P.parent[i]) {
		line.unshift(i);
		if (i === 0) break;
	}
	const crumb = i => element('button', { type: 'button', textContent: i === 0 ? '/' : P.name[i] + '/', onclick: () => enter(i) });
	byId('crumbs').replaceChildren(...line.map(crumb), ` ${human(total[state.dir])}`);
}

function enter(dir) {
	tiles.at = -1;
	choose({ dir });
}

function point(tile) {
	tiles.at = tiles.list.indexOf(tile);
	if (tile) byId('hover').textContent = `${paths[tile.i]}  ${human(total[tile.i])}` + (P.layer[tile.i] >= 0 && P.kind[tile.i] !== 'd' ? `  layer ${P.layer[tile.i]}` : '');
}

function tileAt(event) {
	const box = canvas.getBoundingClientRect();
	const x = event.clientX - box.left, y = event.clientY - box.top;
	return tiles.list.find(tile => x >= tile.x && x < tile.x + tile.w && y >= tile.y && y < tile.y + tile.h);
}

function open(tile) {
	if (!tile) return;
	if (P.kind[tile.i] === 'd') enter(tile.i);
	choose({ path: tile.i });
}

// The nearest tile whose middle lies in the direction of an arrow key.
function neighbour(dx, dy) {
	const from = tiles.list[tiles.at];
	if (!from) return tiles.list[0];
	const middle = tile => [tile.x + tile.w / 2, tile.y + tile.h / 2];
	const [fx, fy] = middle(from);
	let best = from, least = Infinity;
	for (const tile of tiles.list) {
		const [x, y] = middle(tile);
		const ahead = (x - fx) * dx + (y - fy) * dy;
		const aside = Math.abs((x - fx) * dy) + Math.abs((y - fy) * dx);
		if (ahead > .5 && ahead + 2 * aside < least) { least = ahead + 2 * aside; best = tile; }
	}
	return best;
}

canvas.addEventListener('mousemove', event => { const tile = tileAt(event); if (tile) point(tile); });
canvas.addEventListener('click', event => open(tileAt(event)));
canvas.addEventListener('keydown', event => {
	const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
	if (arrows[event.key]) { point(neighbour(...arrows[event.key])); draw(); }
	else if (event.key === 'Enter') open(tiles.list[tiles.at]);
	else if (event.key === 'Backspace') enter(P.parent[state.dir]);
	else return;
	event.preventDefault();
});
listeners.push(changes => {
	if ('dir' in changes || 'layer' in changes) { crumbs(); draw(); }
});
new ResizeObserver(draw).observe(canvas);
dark.addEventListener('change', draw);

'use strict';
// The facts, and what is computed of them once.
const DATA = JSON.parse(document.getElementById('data').textContent);
const P = DATA.paths;
const COUNT = P.name.length;
const byId = id => document.getElementById(id);

// Children stand behind their parent, so sums over directories take one pass from the end.
const total = new Float64Array(COUNT);
const children = Array.from({ length: COUNT }, () => null);
for (let i = COUNT - 1; i >= 0; i--) {
	if (P.layer[i] >= 0) total[i] += P.size[i];
	if (i > 0) {
		total[P.parent[i]] += total[i];
		(children[P.parent[i]] ??= []).push(i);
	}
}
const lower = new Array(COUNT);
const paths = new Array(COUNT);
for (let i = 0; i < COUNT; i++) {
	paths[i] = i === 0 ? '/' : (P.parent[i] === 0 ? '/' : paths[P.parent[i]] + '/') + P.name[i];
	lower[i] = paths[i].toLowerCase();
}

// What is chosen, in one place; whoever shows it listens.
const state = { layer: -1, path: -1, dir: 0 };
const listeners = [];
function choose(changes) {
	Object.assign(state, changes);
	for (const listener of listeners) listener(changes);
}

// Hues a golden angle apart: neighbours in the stack are told apart, however many there are.
const dark = matchMedia('(prefers-color-scheme: dark)');
function color(layer) {
	return layer < 0 ? '#888' : `hsl(${(210 + layer * 137.508) % 360} 55% ${dark.matches ? 42 : 68}%)`;
}
function human(bytes) {
	let unit = 0;
	while (bytes >= 999.5 && unit < 6) { bytes /= 1000; unit++; }
	return (unit === 0 || bytes >= 99.95 ? bytes.toFixed(0) : bytes.toFixed(1)) + ' ' + ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'][unit];
}
function mode(i) {
	const bits = P.mode[i];
	const three = (at, special, letter) => {
		const run = (bits >> at) & 1;
		return ((bits >> at) & 4 ? 'r' : '-') + ((bits >> at) & 2 ? 'w' : '-') +
			(bits & special ? (run ? letter : letter.toUpperCase()) : run ? 'x' : '-');
	};
	return P.kind[i] + three(6, 0o4000, 's') + three(3, 0o2000, 's') + three(0, 0o1000, 't');
}
function element(name, properties = {}, ...inside) {
	const made = Object.assign(document.createElement(name), properties);
	made.append(...inside);
	return made;
}

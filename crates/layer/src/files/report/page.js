// The stack of layers, the story of the chosen path, and the keys that work everywhere.
const WORDS = { A: 'added', M: 'modified', D: 'removed' };

function stack() {
	const most = Math.max(1, ...DATA.layers.map(layer => layer.stored));
	byId('layers').replaceChildren(...DATA.layers.map((layer, number) => {
		const bar = element('span', { className: 'bar' }), lost = element('span', { className: 'lost' });
		bar.style.width = `${layer.stored / most * 100}%`;
		lost.style.width = `${layer.stored ? layer.wasted / layer.stored * 100 : 0}%`;
		bar.append(lost);
		const sizes = `${number}: ${human(layer.stored)}` + (layer.wasted ? `, ${human(layer.wasted)} wasted` : '') +
			(layer.hides ? `, hides ${human(layer.hides)}` : '');
		const button = element('button', { type: 'button', title: `${layer.command}\n${layer.diffId}`,
			onclick: () => choose({ layer: state.layer === number ? -1 : number }) },
			element('span', { className: 'sizes', textContent: sizes }),
			element('span', { className: 'what', textContent: layer.command || layer.diffId }), bar);
		button.style.setProperty('--color', color(number));
		button.setAttribute('aria-pressed', state.layer === number);
		return element('li', {}, button);
	}));
	byId('all-layers').hidden = state.layer < 0;
}

function whence() {
	const i = state.path;
	if (i < 0) return;
	const steps = P.story[i] ?? (P.layer[i] < 0 ? [] : [[P.layer[i], 'A', P.size[i], '']]);
	const item = ([layer, letter, size, by]) => {
		const made = element('li', {}, element('b', { textContent: `layer ${layer} ${WORDS[letter]}` }),
			P.kind[i] === '-' && letter !== 'D' ? ` ${human(size)}` : '', by ? ` by ${by}` : '',
			element('code', { textContent: DATA.layers[layer].command }));
		made.style.setProperty('--color', color(layer));
		return made;
	};
	const facts = `${mode(i)} ${P.owners[P.owner[i]]} ${P.kind[i] === 'd' ? human(total[i]) + ' below' : P.size[i] + ' bytes'}`;
	byId('whence').replaceChildren(
		element('p', {}, element('b', { textContent: paths[i] }), P.target[i] === undefined ? '' : ` → ${P.target[i]}`),
		element('p', { textContent: facts + (P.wasted[i] ? `, ${human(P.wasted[i])} wasted` : '') }),
		element('ol', {}, ...steps.map(item)));
}

byId('all-layers').addEventListener('click', () => choose({ layer: -1 }));
document.addEventListener('keydown', event => {
	const typing = event.target.tagName === 'INPUT';
	if (event.key === '/' && !typing) { byId('filter').focus(); event.preventDefault(); }
	else if (event.key === 'Escape') {
		if (typing) { byId('filter').value = ''; filter(); rows.focus(); } else if (state.layer >= 0) choose({ layer: -1 });
	}
});
listeners.push(changes => {
	if ('layer' in changes) stack();
	if ('path' in changes) whence();
});
dark.addEventListener('change', () => { stack(); whence(); render(); });
byId('summary').textContent = DATA.summary;
byId('id').textContent = DATA.id;
stack();
heads();
crumbs();
filter();

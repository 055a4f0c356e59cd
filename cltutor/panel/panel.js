/* What no widget offers: the panel keeps its keys to itself, its status is announced, its sliders
   have names. Runs once per view, from the error event of an image that is none. */
const found = (tries) => {
  const root = this.closest('.cltutor-panel');
  if (root) return begin(root);
  if (tries) setTimeout(() => found(tries - 1), 50);
};
const begin = (root) => {
  if (root.dataset.ready) return;
  root.dataset.ready = 'yes';
  root.setAttribute('role', 'region');
  const named = {browse: 'Pictures to choose from', sampling: 'Sampling panel'};
  const kind = Object.keys(named).find((name) => root.classList.contains(`cltutor-${name}`));
  root.setAttribute('aria-label', named[kind] || 'Training panel');
  // JupyterLab's command keys (d d, x, m, arrows) would act on the cell that holds the panel.
  root.addEventListener('keydown', (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
  });
  const set = (node, name, value) => {
    if (node && value && node.getAttribute(name) !== value) node.setAttribute(name, value);
  };
  const label = () => {
    for (const told of root.querySelectorAll('.cltutor-told')) set(told, 'role', 'status');
    for (const handle of root.querySelectorAll('[role=slider]')) {
      const slider = handle.closest('.widget-slider');
      const readout = slider.querySelector('.widget-readout');
      set(handle, 'aria-label', slider.querySelector('.widget-label')?.textContent);
      set(handle, 'aria-valuetext', readout?.textContent);
      set(readout, 'contenteditable', 'false'); // it would be a stop without a name
    }
  };
  const watched = { attributeFilter: ['aria-valuetext'], characterData: true };
  new MutationObserver(label).observe(root, { childList: true, subtree: true, ...watched });
  label();
};
found(40);

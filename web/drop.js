// Files dragged over the page. Targets are "search" and "add"; several files can only be added.

/** Shows `overlay` while files are dragged; calls `act.search` or `act.add` with dropped files. */
export function watchDrops(overlay, act) {
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files')
  const targetOf = (event) => event.target.closest?.('[data-drop]')

  function mark(event) {
    for (const target of overlay.children)
      target.classList.toggle('over', target === targetOf(event))
  }

  window.addEventListener('dragenter', (event) => {
    if (carriesFiles(event)) overlay.hidden = false
  })
  window.addEventListener('dragover', (event) => {
    if (!carriesFiles(event)) return
    event.preventDefault()
    mark(event)
  })
  window.addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) overlay.hidden = true
  })
  window.addEventListener('drop', (event) => {
    if (!carriesFiles(event)) return
    event.preventDefault()
    overlay.hidden = true
    const files = [...event.dataTransfer.files]
    if (files.length === 0) return
    if (targetOf(event)?.dataset.drop === 'search' && files.length === 1) act.search(files)
    else act.add(files)
  })
}

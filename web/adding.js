// Uploads: a line with the progress of each file, two at a time.
import { addItem } from './api.js'

const AT_ONCE = 2
const list = document.getElementById('files')
const panel = document.getElementById('adding')
const title = document.getElementById('adding-title')
const waiting = []
let running = 0
let counts = { added: 0, failed: 0 }

/**
 * 64 bits as hex, similar to FNV-1a, so that the same photo added twice replaces itself.
 * crypto.subtle would need https.
 */
async function contentHash(file) {
  const bytes = new Uint8Array(await file.arrayBuffer())
  let low = 0x811c9dc5
  let high = 0xcbf29ce4
  for (const byte of bytes) {
    low = Math.imul(low ^ byte, 0x01000193)
    high = Math.imul(high ^ byte ^ (low >>> 24), 0x01000193)
  }
  return [high, low].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('')
}

/** The file name without its extension, and the hash of the content. */
async function idOf(file) {
  const stem = file.name
    .replace(/\.[^.]*$/, '')
    .replace(/[^\p{L}\p{N}._-]+/gu, '-')
    .slice(0, 80)
  return `${stem || 'photo'}-${await contentHash(file)}`
}

function fileLine(file) {
  const line = document.createElement('li')
  const name = document.createElement('span')
  name.className = 'file-name'
  name.textContent = file.name
  const state = document.createElement('span')
  state.textContent = 'waiting'
  const progress = document.createElement('progress')
  progress.max = 1
  progress.value = 0
  progress.setAttribute('aria-label', `Sending ${file.name}`)
  line.append(name, state, progress)
  list.append(line)
  return { line, state, progress }
}

function showFailure({ line, state, progress }, message) {
  state.textContent = 'not added'
  progress.remove()
  const reason = document.createElement('span')
  reason.className = 'failed'
  reason.textContent = message
  line.append(reason)
}

async function send({ file, view }) {
  try {
    if (file.type !== '' && !file.type.startsWith('image/'))
      throw new Error(`This is not an image: its type is ${file.type}.`)
    view.state.textContent = 'sending'
    const id = await idOf(file)
    await addItem(id, file, { file_name: file.name }, (part) => {
      view.progress.value = part
      if (part === 1) view.state.textContent = 'encoding'
    })
    view.progress.remove()
    view.state.textContent = 'added'
    counts.added += 1
    view.line.classList.add('done')
  } catch (error) {
    showFailure(view, error.message)
    counts.failed += 1
  }
}

async function drain(onAdded) {
  running += 1
  for (let next = waiting.shift(); next; next = waiting.shift()) await send(next)
  running -= 1
  if (running > 0) return
  const { added, failed } = counts
  counts = { added: 0, failed: 0 }
  title.textContent = `${added} added${failed > 0 ? `, ${failed} not added` : ''}`
  if (added > 0) onAdded()
}

/** Adds the files; `onAdded()` is called once at the end, unless none was added. */
export function addFiles(files, onAdded) {
  if (files.length === 0) return
  // Failures stay until the panel is closed.
  for (const line of list.querySelectorAll('.done')) line.remove()
  panel.hidden = false
  title.textContent = 'Adding photos'
  for (const file of files) waiting.push({ file, view: fileLine(file) })
  for (let free = Math.min(AT_ONCE - running, waiting.length); free > 0; free -= 1)
    void drain(onAdded)
}

document.getElementById('adding-close').addEventListener('click', () => {
  panel.hidden = true
  if (running === 0) list.replaceChildren()
})

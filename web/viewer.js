// One photo large, with its data, a download and a way to delete it.
import { imageAddress, removeItem } from './api.js'
import { nameOf, scoresOf } from './grid.js'

const $ = (id) => document.getElementById(`viewer-${id}`)
const dialog = document.getElementById('viewer')
const [name, image, data, failure, deletion] = ['name', 'image', 'data', 'failure', 'delete'].map($)

const DELETE = 'Delete'
const CONFIRM = 'Delete for good?'

let shown // the hit
let hits = [] // of the grid, for previous and next
let actions = {}
let objectUrl

function textOf(value) {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function rowsOf(hit) {
  const numbers = scoresOf(hit).map(([label, , , value]) => [label, value])
  const payload = Object.entries(hit.payload ?? {}).map(([key, value]) => [key, textOf(value)])
  return [['Id', hit.id], ...numbers, ...payload]
}

function show(hit) {
  shown = hit
  name.textContent = nameOf(hit)
  failure.hidden = true
  deletion.textContent = DELETE
  data.replaceChildren(
    ...rowsOf(hit).flatMap(([label, value]) => {
      const [term, description] = [document.createElement('dt'), document.createElement('dd')]
      term.textContent = label
      description.textContent = value
      return [term, description]
    }),
  )
  image.alt = nameOf(hit)
  image.removeAttribute('src')
  const at = hits.indexOf(hit)
  $('previous').disabled = at <= 0
  $('next').disabled = at === -1 || at === hits.length - 1
  void showImage(hit)
}

async function showImage(hit) {
  try {
    const href = await imageAddress(hit.id)
    if (shown !== hit) return
    if (objectUrl) URL.revokeObjectURL(objectUrl)
    objectUrl = href.startsWith('blob:') ? href : undefined
    image.src = href
    $('download').href = href
    $('download').download = `${nameOf(hit)
      .replace(/^.*\//, '')
      .replace(/\.\w+$/, '')}.jpg`
  } catch (error) {
    fail(error)
  }
}

function fail(error) {
  failure.textContent = error.message
  failure.hidden = false
}

function step(by) {
  const next = hits[hits.indexOf(shown) + by]
  if (next !== undefined) show(next)
}

/** The first press asks, the second deletes. */
async function remove() {
  if (deletion.textContent === DELETE) {
    deletion.textContent = CONFIRM
    return
  }
  const hit = shown
  deletion.disabled = true
  try {
    await removeItem(hit.id)
    dialog.close()
    actions.onRemoved(hit)
  } catch (error) {
    deletion.textContent = DELETE
    fail(error)
  } finally {
    deletion.disabled = false
  }
}

/**
 * Shows `hit`, which is one of `list`. `onLike(hit)` searches photos like it; `onRemoved(hit)` is
 * called when it was deleted.
 */
export function openViewer(hit, list, { onLike, onRemoved }) {
  hits = list
  actions = { onLike, onRemoved }
  show(hit)
  dialog.showModal()
}

$('close').addEventListener('click', () => dialog.close())
$('previous').addEventListener('click', () => step(-1))
$('next').addEventListener('click', () => step(1))
$('like').addEventListener('click', () => {
  dialog.close()
  actions.onLike(shown)
})
deletion.addEventListener('click', () => void remove())
image.addEventListener('error', () =>
  fail(new Error('This picture cannot be shown: its file could not be loaded.')),
)
dialog.addEventListener('keydown', ({ key }) => {
  if (key === 'ArrowLeft') step(-1)
  if (key === 'ArrowRight') step(1)
})
dialog.addEventListener('click', ({ target }) => target === dialog && dialog.close())

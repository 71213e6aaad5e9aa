// The search page. A query is a text, an image, or an item ("more like this").
import { listItems, search, setApiKey } from './api.js'
import { addFiles } from './adding.js'
import { showQuery } from './shown-query.js'
import { nameOf, showHits } from './grid.js'
import { watchDrops } from './drop.js'

const TYPING_PAUSE_MS = 250
const BROWSE_PAGE = 48

const $ = (id) => document.getElementById(id)
const [form, sentence, rerank, count, grid, status, notice, failure, empty, more] = [
  'search',
  'sentence',
  'rerank',
  'count',
  'results',
  'status',
  'notice',
  'failure',
  'empty',
  'more',
].map($)

let query = { kind: 'browse' } // browse | text | image | item
let running // AbortController of the current request
let typing // timer of the pause after typing
let nextPage = null // `after` of the next page; null on the last page

/** Shows an error or a text instead of hits. */
function showState({ problem = '', emptyText = '' }) {
  failure.textContent = problem
  failure.hidden = problem === ''
  $('empty-text').textContent = emptyText
  empty.hidden = emptyText === ''
}

/** "8 photos in 52 ms (encode 12 · recall 1 · rerank 36)" */
function summary(hits, timings, tookMs) {
  const stages = ['encode', 'recall', 'fetch', 'rerank']
    .filter((stage) => timings[stage] >= 0.5)
    .map((stage) => `${stage} ${Math.round(timings[stage])}`)
  const photos = hits.length === 1 ? '1 photo' : `${hits.length} photos`
  return `${photos} in ${Math.round(tookMs)} ms${stages.length > 0 ? ` (${stages.join(' · ')})` : ''}`
}

/** Why the service gives no match. */
function showNotices(notices) {
  notice.textContent = notices.map(({ detail }) => detail).join(' ')
  notice.hidden = notices.length === 0
}

function rememberInAddress() {
  const options = new URLSearchParams()
  if (query.kind === 'text') options.set('q', query.text)
  if (!rerank.checked) options.set('rerank', 'false')
  const text = options.toString()
  history.replaceState(null, '', text === '' ? location.pathname : `?${text}`)
}

/** Runs `work` as the current request. Aborts the previous one, whose answer is not shown. */
async function run(work) {
  running?.abort()
  const controller = new AbortController()
  running = controller
  grid.setAttribute('aria-busy', 'true')
  const slowTimer = setTimeout(() => {
    status.textContent = 'Searching…'
  }, 400)
  try {
    await work(controller.signal)
  } catch (error) {
    if (controller.signal.aborted) return
    showFailure(error)
  } finally {
    clearTimeout(slowTimer)
    if (running === controller) grid.setAttribute('aria-busy', 'false')
  }
}

function showFailure(error) {
  status.textContent = ''
  more.hidden = true
  showHits(grid, [], { onLike: searchLike })
  const keyMissing = error.status === 401
  $('key-form').hidden = !keyMissing
  if (keyMissing) $('api-key').focus()
  showState({ problem: keyMissing ? '' : error.message })
}

function runQuery() {
  showNotices([])
  showQuery(query, rerank.checked)
  rememberInAddress()
  return run(query.kind === 'browse' ? (signal) => browse(signal) : (signal) => find(signal))
}

async function find(signal) {
  const started = performance.now()
  const { hits, notices, timings } = await search(query, {
    k: Number(count.value),
    rerank: rerank.checked,
    signal,
  })
  if (signal.aborted) return
  showHits(grid, hits, { onLike: searchLike })
  more.hidden = true
  status.textContent = summary(hits, timings, performance.now() - started)
  showNotices(notices)
  showState({
    emptyText: hits.length === 0 ? 'Nothing found. There may be no photos here yet: add some.' : '',
  })
}

async function browse(signal, after) {
  const { items, next } = await listItems(BROWSE_PAGE, after, signal)
  if (signal.aborted) return
  showHits(grid, items, { append: after !== undefined, onLike: searchLike })
  nextPage = next
  more.hidden = next === null
  const shown = grid.childElementCount
  status.textContent = shown === 0 ? '' : `${shown}${more.hidden ? '' : ' or more'} stored`
  showState({ emptyText: shown === 0 ? 'No photos yet. Drop some here, or choose them.' : '' })
}

function searchText() {
  clearTimeout(typing)
  const text = sentence.value.trim()
  query = text === '' ? { kind: 'browse' } : { kind: 'text', text }
  return runQuery()
}

function searchImage(file) {
  sentence.value = ''
  query = { kind: 'image', file }
  return runQuery()
}

function searchLike(hit) {
  sentence.value = ''
  const shown = [...grid.querySelectorAll('.card')].find(
    (node) => node.querySelector('.name').title === hit.id,
  )
  query = { kind: 'item', id: hit.id, name: nameOf(hit), src: shown.querySelector('img').src }
  window.scrollTo({ top: 0 })
  grid.focus({ preventScroll: true })
  return runQuery()
}

function add(files) {
  addFiles([...files], ({ added, failed }) => {
    status.textContent = `${added} added${failed > 0 ? `, ${failed} not added` : ''}`
    if (added > 0) void runQuery()
  })
}

form.addEventListener('submit', (event) => {
  event.preventDefault()
  void searchText()
})
sentence.addEventListener('input', () => {
  clearTimeout(typing)
  typing = setTimeout(searchText, TYPING_PAUSE_MS)
})
rerank.addEventListener('change', () => void runQuery())
count.addEventListener('change', () => void runQuery())
more.addEventListener('click', () => run((signal) => browse(signal, nextPage)))
$('clear').addEventListener('click', () => {
  void searchText()
  sentence.focus()
})
$('choose-query').addEventListener('click', () => $('query-file').click())
for (const id of ['choose-add', 'empty-add'])
  $(id).addEventListener('click', () => $('add-files').click())
$('query-file').addEventListener('change', ({ target }) => {
  if (target.files[0]) void searchImage(target.files[0])
  target.value = ''
})
$('add-files').addEventListener('change', ({ target }) => {
  add(target.files)
  target.value = ''
})
$('key-form').addEventListener('submit', (event) => {
  event.preventDefault()
  setApiKey($('api-key').value.trim())
  $('key-form').hidden = true
  void runQuery()
})
window.addEventListener('paste', ({ clipboardData }) => {
  const image = [...clipboardData.files].find((file) => file.type.startsWith('image/'))
  if (image) void searchImage(image)
})
watchDrops($('drop'), { search: ([file]) => searchImage(file), add })

const opened = new URLSearchParams(location.search)
sentence.value = opened.get('q') ?? ''
rerank.checked = opened.get('rerank') !== 'false'
void searchText()

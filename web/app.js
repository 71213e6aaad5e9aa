// The search page. A query is a text, an image, or an item ("more like this").
import { addressOf, encodedImage, queryInAddress } from './address.js'
import { hasApiKey, imageAddress, listItems, readItem, search, setApiKey } from './api.js'
import { addFiles } from './adding.js'
import { watchDrops } from './drop.js'
import { filterIn, showFilter, suggestKeys, watchFilter } from './filter-form.js'
import { imageOf, nameOf, removeHit, showHits, shownHits } from './grid.js'
import { showQuery } from './shown-query.js'
import { openViewer } from './viewer.js'

const TYPING_PAUSE_MS = 250
const PAGE = 48
/** The most hits of one search. */
const MOST = 1000
const NUMBERS = 'tandem-numbers'

const $ = (id) => document.getElementById(id)
const [form, sentence, rerank, minMatch, numbers, grid] = [
  'search',
  'sentence',
  'rerank',
  'min-match',
  'numbers',
  'results',
].map($)
const [status, notice, failure, empty, more] = ['status', 'notice', 'failure', 'empty', 'more'].map(
  $,
)

let query = { kind: 'browse' } // browse | text | image | item
let isTyped = false // whether the entry of the history is a text that is still being typed
let running // AbortController of the current request
let typing // timer of the pause after typing
let showMore // what the button does

const actions = { onOpen: open, onLike: searchLike }

const optionsNow = () => ({
  rerank: rerank.checked,
  minMatch: minMatch.value,
  filter: filterIn(),
})

/** Shows an error or a text instead of hits. */
function showState({ problem = '', emptyText = '' }) {
  failure.textContent = problem
  failure.hidden = problem === ''
  $('empty-text').textContent = emptyText
  empty.hidden = emptyText === ''
}

/** Why the service gives no match. */
function showNotices(notices = []) {
  notice.textContent = notices.map(({ detail }) => detail).join(' ')
  notice.hidden = notices.length === 0
}

/** "8 photos", with numbers "8 photos in 52 ms (encode 12 · recall 1 · rerank 36)" */
function summary(count, timings, tookMs) {
  const photos = count === 1 ? '1 photo' : `${count} photos`
  if (!numbers.checked) return photos
  const stages = ['encode', 'recall', 'fetch', 'rerank']
    .filter((stage) => timings[stage] >= 0.5)
    .map((stage) => `${stage} ${Math.round(timings[stage])}`)
  return `${photos} in ${Math.round(tookMs)} ms${stages.length > 0 ? ` (${stages.join(' · ')})` : ''}`
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
  showHits(grid, [], actions)
  const isKeyRefused = error.status === 401
  $('key-form').hidden = !isKeyRefused
  showState({ problem: isKeyRefused ? '' : error.message })
  if (!isKeyRefused) return
  $('key-note').classList.toggle('wrong', hasApiKey())
  $('key-note').textContent = hasApiKey()
    ? 'The service does not know this key.'
    : 'Kept for this tab only.'
  $('api-key').select()
  $('api-key').focus()
}

/** @param entry - `push` for a new entry of the history, `replace` for the current one, or null */
async function runQuery(entry) {
  const now = query
  if (now.kind === 'image') now.encoded ??= await encodedImage(now.file)
  if (query !== now) return
  if (entry !== null) history[`${entry}State`](null, '', addressOf(now, optionsNow()))
  showNotices()
  showQuery(now)
  minMatch.disabled = !rerank.checked
  return run(now.kind === 'browse' ? (signal) => browse(signal) : (signal) => find(signal, PAGE))
}

async function find(signal, k) {
  const started = performance.now()
  const { hits, notices, timings } = await search(query, { ...optionsNow(), k, signal })
  if (signal.aborted) return
  showHits(grid, hits, { append: k > PAGE, ...actions })
  suggestKeys(hits)
  showNotices(notices)
  more.hidden = hits.length < k || k === MOST
  showMore = (nextSignal) => find(nextSignal, Math.min(k + PAGE, MOST))
  status.textContent = summary(hits.length, timings, performance.now() - started)
  showState({ emptyText: hits.length === 0 ? nothingFound() : '' })
}

function nothingFound() {
  const { filter, minMatch: least } = optionsNow()
  if (filter !== undefined || least !== '')
    return 'No photo fits these options. Change them to see more.'
  return 'Nothing found. There may be no photos here yet: add some.'
}

async function browse(signal, after) {
  const { items, next } = await listItems(PAGE, after, signal)
  if (signal.aborted) return
  showHits(grid, items, { append: after !== undefined, ...actions })
  suggestKeys(items)
  more.hidden = next === null
  showMore = (nextSignal) => browse(nextSignal, next)
  const shown = shownHits(grid).length
  status.textContent = shown === 0 ? '' : `${shown}${more.hidden ? '' : ' shown, more'} stored`
  showState({ emptyText: shown === 0 ? 'No photos yet. Drop some here, or choose them.' : '' })
}

/** @param isFinal - whether the user is done typing */
function searchText(isFinal) {
  clearTimeout(typing)
  const text = sentence.value.trim()
  const isSame = query.kind === 'text' && query.text === text
  query = text === '' ? { kind: 'browse' } : { kind: 'text', text }
  const entry = isTyped || isSame ? 'replace' : 'push'
  isTyped = !isFinal
  return runQuery(entry)
}

function searchFor(next) {
  clearTimeout(typing)
  sentence.value = ''
  isTyped = false
  query = next
  return runQuery('push')
}

function searchImage(file) {
  return searchFor({ kind: 'image', file })
}

function searchLike(hit) {
  const src = imageOf(grid, hit.id)
  window.scrollTo({ top: 0 })
  grid.focus({ preventScroll: true })
  return searchFor({ kind: 'item', id: hit.id, name: nameOf(hit), src })
}

function open(hit) {
  openViewer(hit, shownHits(grid), {
    onLike: searchLike,
    onRemoved: ({ id }) => removeHit(grid, id),
  })
}

function add(files) {
  addFiles([...files], () => void runQuery(null))
}

/** The query and the options of the address: at the start, and after Back and Forward. */
async function runAddress() {
  const opened = queryInAddress()
  clearTimeout(typing)
  isTyped = false
  query = opened.query
  sentence.value = query.text ?? ''
  rerank.checked = opened.rerank
  minMatch.value = opened.minMatch
  showFilter(opened.filter, () => void runQuery('replace'))
  if (query.kind === 'item') await nameItem(query)
  return runQuery(null)
}

async function nameItem(item) {
  item.name = item.id
  try {
    item.name = nameOf(await readItem(item.id))
    item.src = await imageAddress(item.id)
  } catch {
    // The search reports what is wrong.
  }
}

function showNumbers() {
  document.body.classList.toggle('numbers', numbers.checked)
  localStorage.setItem(NUMBERS, String(numbers.checked))
}

form.addEventListener('submit', (event) => {
  event.preventDefault()
  void searchText(true)
})
sentence.addEventListener('input', () => {
  clearTimeout(typing)
  typing = setTimeout(() => searchText(false), TYPING_PAUSE_MS)
})
for (const option of [rerank, minMatch])
  option.addEventListener('change', () => void runQuery('replace'))
watchFilter(() => void runQuery('replace'))
numbers.addEventListener('change', showNumbers)
$('options').addEventListener('submit', (event) => event.preventDefault())
$('show-options').addEventListener('click', ({ currentTarget }) => {
  $('options').hidden = !$('options').hidden
  currentTarget.setAttribute('aria-expanded', String(!$('options').hidden))
  if (!$('options').hidden) $('options').scrollIntoView({ block: 'nearest' })
})
more.addEventListener('click', () => run(showMore))
$('clear').addEventListener('click', () => {
  void searchFor({ kind: 'browse' })
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
  void runQuery(null)
})
window.addEventListener('paste', ({ clipboardData }) => {
  const image = [...clipboardData.files].find((file) => file.type.startsWith('image/'))
  if (image) void searchImage(image)
})
window.addEventListener('popstate', () => void runAddress())
watchDrops($('drop'), { search: ([file]) => searchImage(file), add })

numbers.checked = localStorage.getItem(NUMBERS) === 'true'
showNumbers()
void runAddress()

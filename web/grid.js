// The grid of photos: a card for each hit. Images are loaded when they come near the screen.
import { imageAddress } from './api.js'

/** From this match on, sentence and photo belong together more probably than not. */
const LIKELY = 0.5

const template = document.getElementById('hit')
const hitOf = new WeakMap() // card → hit
let objectUrls = [] // of the images in the grid; revoked with them

/** The displayed name: a title or file name from the payload, otherwise the id. */
export function nameOf({ id, payload }) {
  const name = payload && (payload.title ?? payload.caption ?? payload.file_name ?? payload.path)
  return typeof name === 'string' && name !== '' ? name : id
}

/** Scores as [label, kind, share of the bar, text, explanation]. */
export function scoresOf({ match, similarity }) {
  const percent = (part) => `${part > 0 && part < 0.01 ? '<1' : Math.round(part * 100)} %`
  const scores = []
  if (typeof match === 'number') {
    const hint = 'Probability that sentence and photo belong together'
    scores.push(['Match', 'match', match, percent(match), hint])
  }
  if (typeof similarity === 'number') {
    const hint = 'Cosine of the two embeddings'
    scores.push(['Similarity', 'similarity', similarity, similarity.toFixed(3), hint])
  }
  return scores
}

function scoreRow([label, kind, part, value, hint]) {
  const row = document.createElement('div')
  row.className = kind
  row.title = hint
  const term = document.createElement('dt')
  term.textContent = label
  const description = document.createElement('dd')
  const bar = document.createElement('span')
  bar.className = 'bar'
  bar.style.setProperty('--part', String(Math.min(Math.max(part, 0), 1)))
  const number = document.createElement('span')
  number.className = 'value'
  number.textContent = value
  description.append(bar, number)
  row.append(term, description)
  return row
}

const nearScreen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue
      nearScreen.unobserve(target)
      void loadImage(target)
    }
  },
  { rootMargin: '600px' },
)

async function loadImage(node) {
  const image = node.querySelector('img')
  const broken = () => node.classList.replace('loading', 'broken')
  image.addEventListener('load', () => node.classList.remove('loading'))
  image.addEventListener('error', broken)
  try {
    const href = await imageAddress(hitOf.get(node).id)
    if (href.startsWith('blob:')) objectUrls.push(href)
    image.src = href
  } catch {
    broken()
  }
}

function card(hit, { onOpen, onLike }) {
  const node = template.content.firstElementChild.cloneNode(true)
  const name = nameOf(hit)
  hitOf.set(node, hit)
  node.querySelector('img').alt = name
  const photo = node.querySelector('.photo')
  photo.setAttribute('aria-label', `Open ${name}`)
  photo.addEventListener('click', () => onOpen(hit))
  node.querySelector('.name').textContent = name
  node.querySelector('.name').title = hit.id
  const scores = scoresOf(hit).map(scoreRow)
  if (scores.length === 0) node.querySelector('.scores').remove()
  else node.querySelector('.scores').append(...scores)
  const like = node.querySelector('.like')
  like.setAttribute('aria-label', `More like ${name}`)
  like.addEventListener('click', () => onLike(hit))
  nearScreen.observe(node)
  return node
}

function divider(text) {
  const node = document.createElement('li')
  node.className = 'divider'
  node.textContent = text
  return node
}

/** The hits of the grid, in order. */
export function shownHits(grid) {
  return [...grid.querySelectorAll('.card')].map((node) => hitOf.get(node))
}

/** The loaded image of a hit in the grid; undefined if it is not there. */
export function imageOf(grid, id) {
  const node = [...grid.querySelectorAll('.card')].find((each) => hitOf.get(each).id === id)
  return node?.querySelector('img').src || undefined
}

/**
 * Replaces the content of the grid by `hits`, or appends those that it does not show. A line stands
 * before the first hit with a low match.
 */
export function showHits(grid, hits, { append = false, ...actions }) {
  if (!append) {
    objectUrls.forEach((href) => URL.revokeObjectURL(href))
    objectUrls = []
    nearScreen.disconnect()
    grid.replaceChildren()
  }
  const shown = new Set(shownHits(grid).map(({ id }) => id))
  for (const hit of hits) {
    if (shown.has(hit.id)) continue
    const isUnlikely = typeof hit.match === 'number' && hit.match < LIKELY
    if (isUnlikely && grid.querySelector('.divider') === null) {
      const isFirst = grid.childElementCount === 0
      grid.append(
        divider(isFirst ? 'No likely match. These photos come nearest' : 'Less likely below'),
      )
    }
    grid.append(card(hit, actions))
  }
}

export function removeHit(grid, id) {
  for (const node of grid.querySelectorAll('.card')) if (hitOf.get(node).id === id) node.remove()
}

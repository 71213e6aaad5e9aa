// The grid of photos: a card for each hit, with its scores as bars.
import { imageAddress } from './api.js'

const template = document.getElementById('hit')
let objectUrls = [] // of the photos in the grid; revoked with them

/** The displayed name: a title or file name from the payload, otherwise the id. */
export function nameOf({ id, payload }) {
  const name = payload && (payload.title ?? payload.caption ?? payload.file_name ?? payload.path)
  return typeof name === 'string' && name !== '' ? name : id
}

function scoreRow(label, kind, part, value, hint) {
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

const percent = (part) => `${part > 0 && part < 0.01 ? '<1' : Math.round(part * 100)} %`

function scoreRows(hit) {
  const rows = []
  if (typeof hit.match === 'number') {
    rows.push(
      scoreRow(
        'Match',
        'match',
        hit.match,
        percent(hit.match),
        'Probability that sentence and photo belong together',
      ),
    )
  }
  if (typeof hit.similarity === 'number') {
    rows.push(
      scoreRow(
        'Similarity',
        'similarity',
        hit.similarity,
        hit.similarity.toFixed(3),
        'Cosine of the two embeddings',
      ),
    )
  }
  return rows
}

function card(hit, onLike) {
  const node = template.content.firstElementChild.cloneNode(true)
  const name = nameOf(hit)
  const link = node.querySelector('.photo')
  const image = node.querySelector('img')
  image.alt = name
  link.setAttribute('aria-label', `Open ${name}`)
  imageAddress(hit.id).then(
    (href) => {
      if (href.startsWith('blob:')) objectUrls.push(href)
      image.src = href
      link.href = href
    },
    () => {
      image.alt = `${name} (the image could not be loaded)`
    },
  )
  node.querySelector('.name').textContent = name
  node.querySelector('.name').title = hit.id
  const scores = scoreRows(hit)
  if (scores.length === 0) node.querySelector('.scores').remove()
  else node.querySelector('.scores').append(...scores)
  const like = node.querySelector('.like')
  like.setAttribute('aria-label', `More like ${name}`)
  like.addEventListener('click', () => onLike(hit))
  return node
}

/** Replaces the content of the grid by `hits`, or appends them. */
export function showHits(grid, hits, { append = false, onLike }) {
  const cards = hits.map((hit) => card(hit, onLike))
  if (append) {
    grid.append(...cards)
    return
  }
  objectUrls.forEach((href) => URL.revokeObjectURL(href))
  objectUrls = []
  grid.replaceChildren(...cards)
}

// Calls of the HTTP API. Addresses are relative to the page, so it works behind a path prefix.

const KEY = 'tandem-api-key'

/** An error answer; `status` is 0 if the service was not reached. */
export class Problem extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

export function setApiKey(key) {
  sessionStorage.setItem(KEY, key)
}

/** Whether there is a key, which the service may refuse. */
export function hasApiKey() {
  return sessionStorage.getItem(KEY) !== null
}

function authorization() {
  const key = sessionStorage.getItem(KEY)
  return key ? { authorization: `Bearer ${key}` } : {}
}

const address = (path) => new URL(path, document.baseURI)
const itemPath = (id) => `items/${encodeURIComponent(id)}`

/** The error of a failed answer, with the detail of its problem+json. */
function problemOf(status, body) {
  let parsed
  try {
    parsed = JSON.parse(body)
  } catch {
    parsed = {}
  }
  return new Problem(
    status,
    parsed.detail ?? parsed.title ?? `The service answered with status ${status}.`,
  )
}

async function request(path, init = {}) {
  let answer
  try {
    answer = await fetch(address(path), {
      ...init,
      headers: { ...init.headers, ...authorization() },
    })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new Problem(0, 'The service cannot be reached. Is it still running?')
  }
  if (!answer.ok) throw problemOf(answer.status, await answer.text())
  return answer
}

/** Searches by `{ text }`, `{ id }` or `{ file }` (an image). */
export async function search(query, { k, rerank, minMatch, filter, signal }) {
  // Only a text has a match.
  const isText = query.text !== undefined
  const options = {
    k,
    ...(isText ? { rerank } : {}),
    ...(isText && rerank && minMatch !== '' ? { min_match: Number(minMatch) } : {}),
  }
  const texts = Object.entries(options).map(([name, value]) => [name, String(value)])
  if (filter !== undefined) texts.push(['filter', JSON.stringify(filter)])
  if (isText) {
    const path = `search?${new URLSearchParams([['q', query.text], ...texts])}`
    return (await request(path, { signal })).json()
  }
  if (query.id !== undefined) {
    const body = JSON.stringify({ id: query.id, ...options, filter })
    const headers = { 'content-type': 'application/json' }
    return (await request('search', { method: 'POST', body, headers, signal })).json()
  }
  const form = new FormData()
  for (const [name, value] of texts) form.append(name, value)
  form.append('image', query.file)
  return (await request('search', { method: 'POST', body: form, signal })).json()
}

export async function readItem(id, signal) {
  return (await request(itemPath(id), { signal })).json()
}

export async function removeItem(id) {
  await request(itemPath(id), { method: 'DELETE' })
}

/** One page of the stored items, by id. */
export async function listItems(limit, after, signal) {
  const options = new URLSearchParams({
    limit: String(limit),
    ...(after === undefined ? {} : { after }),
  })
  return (await request(`items?${options}`, { signal })).json()
}

/** The address of an item's image. With an API key it is fetched, since <img> sends no headers. */
export async function imageAddress(id) {
  const path = `${itemPath(id)}/image`
  if (!sessionStorage.getItem(KEY)) return address(path).href
  return URL.createObjectURL(await (await request(path)).blob())
}

/**
 * Stores an image; `onProgress` gets the sent share, 0 to 1. Uses XMLHttpRequest, because fetch does
 * not report upload progress.
 */
export function addItem(id, file, payload, onProgress) {
  return new Promise((resolve, reject) => {
    const call = new window.XMLHttpRequest()
    call.open(
      'PUT',
      address(`${itemPath(id)}?${new URLSearchParams({ payload: JSON.stringify(payload) })}`),
    )
    call.setRequestHeader('content-type', file.type || 'application/octet-stream')
    for (const [name, value] of Object.entries(authorization())) call.setRequestHeader(name, value)
    call.upload.onprogress = (event) =>
      event.lengthComputable && onProgress(event.loaded / event.total)
    call.onload = () =>
      call.status < 300 ? resolve() : reject(problemOf(call.status, call.responseText))
    call.onerror = () =>
      reject(new Problem(0, 'The service closed the connection or cannot be reached.'))
    call.send(file)
  })
}

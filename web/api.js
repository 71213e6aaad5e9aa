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

/**
 * Searches by `{ text }`, `{ id }` or `{ file }` (an image). Without `rerank` the default of the
 * bundle applies.
 */
export async function search(query, { k, rerank, signal }) {
  const options = { k: String(k), ...(rerank === undefined ? {} : { rerank: String(rerank) }) }
  if (query.text !== undefined) {
    return (
      await request(`search?${new URLSearchParams({ q: query.text, ...options })}`, { signal })
    ).json()
  }
  if (query.id !== undefined) {
    const body = JSON.stringify({ id: query.id, k })
    return (
      await request('search', {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json' },
        signal,
      })
    ).json()
  }
  const form = new FormData()
  form.append('k', String(k))
  form.append('image', query.file)
  return (await request('search', { method: 'POST', body: form, signal })).json()
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

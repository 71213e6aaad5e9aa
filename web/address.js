// The query and the options in the address of the page, so that links, Back and a reload find them.

/** An image goes into the address as a small JPEG: the model reads fewer pixels than these. */
const IMAGE_SIDE = 384
const IMAGE_QUALITY = 0.8

const bytesOf = (base64) =>
  Uint8Array.from(window.atob(base64.replaceAll('-', '+').replaceAll('_', '/')), (c) =>
    c.charCodeAt(0),
  )

/** The image as base64url of a small JPEG; null for a file that the browser cannot decode. */
export async function encodedImage(file) {
  try {
    const bitmap = await createImageBitmap(file)
    const scale = Math.min(1, IMAGE_SIDE / Math.max(bitmap.width, bitmap.height))
    const canvas = document.createElement('canvas')
    canvas.width = Math.max(1, Math.round(bitmap.width * scale))
    canvas.height = Math.max(1, Math.round(bitmap.height * scale))
    canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height)
    const url = canvas.toDataURL('image/jpeg', IMAGE_QUALITY)
    return url
      .slice(url.indexOf(',') + 1)
      .replaceAll('+', '-')
      .replaceAll('/', '_')
  } catch {
    return null
  }
}

/** @param query - an image has `encoded`, see encodedImage */
export function addressOf(query, { rerank, minMatch, filter }) {
  const options = new URLSearchParams()
  if (query.kind === 'text') options.set('q', query.text)
  if (query.kind === 'item') options.set('like', query.id)
  if (!rerank) options.set('rerank', 'false')
  if (minMatch !== '') options.set('min_match', minMatch)
  if (filter !== undefined) options.set('filter', JSON.stringify(filter))
  const text = options.toString()
  const image = query.kind === 'image' && query.encoded ? `#image=${query.encoded}` : ''
  return `${location.pathname}${text === '' ? '' : `?${text}`}${image}`
}

/** The query and the options of the current address; what cannot be read is left out. */
export function queryInAddress() {
  const options = new URLSearchParams(location.search)
  return {
    query: queryOf(options),
    rerank: options.get('rerank') !== 'false',
    minMatch: options.get('min_match') ?? '',
    filter: parsed(options.get('filter')),
  }
}

function queryOf(options) {
  const [, encoded] = /^#image=([\w-]+)=*$/.exec(location.hash) ?? []
  if (encoded !== undefined) {
    try {
      const file = new File([bytesOf(encoded)], 'image.jpg', { type: 'image/jpeg' })
      return { kind: 'image', file, encoded }
    } catch {
      // An image that was cut.
    }
  }
  const [text, id] = [options.get('q')?.trim(), options.get('like')]
  if (id) return { kind: 'item', id }
  return text ? { kind: 'text', text } : { kind: 'browse' }
}

function parsed(text) {
  try {
    return text === null ? undefined : JSON.parse(text)
  } catch {
    return undefined
  }
}

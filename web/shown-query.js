// The image of a query that is an image or an item.
const [panel, image, text, title] = [
  'shown-query',
  'shown-query-image',
  'shown-query-text',
  'results-title',
].map((id) => document.getElementById(id))

let shown // the query whose image is shown
let objectUrl // of that image, if it is a file

function showImage(query) {
  if (objectUrl) URL.revokeObjectURL(objectUrl)
  objectUrl = query.kind === 'image' ? URL.createObjectURL(query.file) : undefined
  const src = objectUrl ?? query.src
  if (src === undefined) image.removeAttribute('src')
  else image.src = src
  const name = query.kind === 'image' ? query.file.name || 'the pasted image' : query.name
  text.textContent = name === undefined ? '' : `Photos like ${name}`
}

/** Shows the image of `query`, if it has one. */
export function showQuery(query) {
  // With other options the image stays: the object URL of a hit may be revoked by then.
  if (query !== shown) showImage(query)
  shown = query
  panel.hidden = query.kind === 'browse' || query.kind === 'text'
  title.textContent = query.kind === 'browse' ? 'Photos' : 'Best matches'
}

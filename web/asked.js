// What was asked when it was no sentence: the image, with a way back.
const [asked, image, text, note, title] = [
  'asked',
  'asked-image',
  'asked-text',
  'rerank-note',
  'results-title',
].map((id) => document.getElementById(id))

let shown // the query whose image is shown
let made // the object URL made for it

function showImage(query) {
  if (made) URL.revokeObjectURL(made)
  made = query.kind === 'image' ? URL.createObjectURL(query.file) : undefined
  const src = made ?? query.src
  if (src === undefined) image.removeAttribute('src')
  else image.src = src
  const name = query.kind === 'image' ? query.file.name || 'the pasted image' : query.name
  text.textContent = name === undefined ? '' : `Photos like ${name}`
}

/** Shows what `query` is when it is an image, and what that means for rerank. */
export function showAsked(query, rerank) {
  // Asked again with another option, the image stays: the address of a hit's image may no longer
  // hold.
  if (query !== shown) showImage(query)
  shown = query
  asked.hidden = query.kind === 'browse' || query.kind === 'text'
  note.hidden = asked.hidden || !rerank
  note.textContent = note.hidden
    ? ''
    : 'Image to image goes by similarity alone: the fusion encoder compares a sentence with a photo.'
  title.textContent = query.kind === 'browse' ? 'Photos' : 'Best matches'
}

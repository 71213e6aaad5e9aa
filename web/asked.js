// What was asked when it was no sentence: the picture, with a way back.
const [asked, picture, text, note, title] = [
  'asked',
  'asked-picture',
  'asked-text',
  'rerank-note',
  'results-title',
].map((id) => document.getElementById(id))

let shown // the query whose picture is shown
let made // the object URL made for it

function showPicture(query) {
  if (made) URL.revokeObjectURL(made)
  made = query.kind === 'picture' ? URL.createObjectURL(query.file) : undefined
  const src = made ?? query.src
  if (src === undefined) picture.removeAttribute('src')
  else picture.src = src
  const name = query.kind === 'picture' ? query.file.name || 'the pasted picture' : query.name
  text.textContent = name === undefined ? '' : `Photos like ${name}`
}

/** Shows what `query` is when it is a picture, and what that means for rerank. */
export function showAsked(query, rerank) {
  // Asked again with another option, the picture stays: the address of a hit's picture may no longer hold.
  if (query !== shown) showPicture(query)
  shown = query
  asked.hidden = query.kind === 'browse' || query.kind === 'text'
  note.hidden = asked.hidden || !rerank
  note.textContent = note.hidden
    ? ''
    : 'Picture to picture goes by similarity alone: the fusion encoder compares a sentence with a photo.'
  title.textContent = query.kind === 'browse' ? 'Photos' : 'Best matches'
}

// The conditions on the data of photos, as rows of a form and as a filter of the API.

const list = document.getElementById('conditions')
const template = document.getElementById('condition')

/** A number is also meant where the payload has it as a text, and the reverse. */
function valuesOf(text) {
  if (text === 'true' || text === 'false') return [text, text === 'true']
  const number = Number(text)
  return text.trim() !== '' && Number.isFinite(number) ? [text, number] : text
}

function conditionIn(row) {
  const key = row.querySelector('.key').value.trim()
  const test = row.querySelector('.test').value
  const value = row.querySelector('.value').value
  if (key === '') return undefined
  if (test === 'exists') return { key, exists: true }
  if (value === '') return undefined
  if (test === 'is') return { key, match: valuesOf(value) }
  if (test === 'is-not') return { must_not: [{ key, match: valuesOf(value) }] }
  const [, number = value] = [valuesOf(value)].flat()
  return { key, range: { [test]: number } }
}

/** The filter that the rows make; undefined without a complete row. */
export function filterIn() {
  const must = [...list.children].map(conditionIn).filter((condition) => condition !== undefined)
  return must.length === 0 ? undefined : { must }
}

function show(row) {
  row.querySelector('.value').hidden = row.querySelector('.test').value === 'exists'
}

/** @param condition - as conditionIn makes it; undefined for an empty row */
function addRow(condition, onChange) {
  const row = template.content.firstElementChild.cloneNode(true)
  const [key, test, value] = ['.key', '.test', '.value'].map((name) => row.querySelector(name))
  const { match, key: name = '', range = {}, exists } = condition?.must_not?.[0] ?? condition ?? {}
  key.value = name
  const [[bound, limit] = []] = Object.entries(range)
  test.value = exists ? 'exists' : (bound ?? (condition?.must_not ? 'is-not' : 'is'))
  value.value = String([match].flat()[0] ?? limit ?? '')
  show(row)
  row.addEventListener('change', () => {
    show(row)
    onChange()
  })
  row.querySelector('.remove').addEventListener('click', () => {
    row.remove()
    onChange()
  })
  list.append(row)
  return key
}

/** Shows a filter that the form can make; others, such as one written by hand, have no rows. */
export function showFilter(filter, onChange) {
  list.replaceChildren()
  for (const condition of filter?.must ?? []) addRow(condition, onChange)
}

export function watchFilter(onChange) {
  document
    .getElementById('add-condition')
    .addEventListener('click', () => addRow(undefined, onChange).focus())
}

/** Offers the names that the data of `hits` has. */
export function suggestKeys(hits) {
  const keys = document.getElementById('keys')
  const known = new Set([...keys.children].map(({ value }) => value))
  for (const name of new Set(hits.flatMap(({ payload }) => Object.keys(payload ?? {})))) {
    if (known.has(name) || known.size > 100) continue
    known.add(name)
    const option = document.createElement('option')
    option.value = name
    keys.append(option)
  }
}

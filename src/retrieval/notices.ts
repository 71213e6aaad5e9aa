/**
 * Texts that the bundle does not understand: they get no match, and a notice says why. An encoder
 * has an embedding for every text, and so a similarity and a match that mean nothing.
 */
import { codeOf, LanguageCheck } from '../language/language-check.js'
import { judgeText } from '../language/text-judgement.js'
import type { ModelInfo } from '../model/models.js'
import type { Encoded, Query } from './encode.js'

export interface Notice {
  code: 'language_not_spoken' | 'text_not_understood'
  /** A sentence for this occurrence. */
  detail: string
  /** BCP 47; null where it was not identified. */
  language: string | null
  /** Positions of the documents that it is about; absent for the query. */
  documents?: number[]
}

type Finding = Pick<Notice, 'code' | 'language'>
type Bundle = Pick<ModelInfo, 'name' | 'languages'>

const checks = new WeakMap<Bundle, LanguageCheck>()
const names = new Intl.DisplayNames('en', { type: 'language' })

/** The languages whose texts the bundle understands; empty if that is not known. */
function spokenBy(info: Bundle): readonly string[] {
  return info.languages
}

/**
 * What keeps the bundle from understanding the text; null for nothing.
 *
 * @param encoded - of the text
 * @param language - as the client names it; then the text is not judged
 */
export function findingOf(
  info: Bundle,
  query: Query,
  encoded: Encoded,
  language: string | undefined,
): Finding | null {
  if (!('text' in query) || encoded.kind !== 'text') return null
  const spoken = spokenBy(info)
  if (spoken.length === 0) return null
  if (language !== undefined) {
    if (spoken.some((tag) => codeOf(tag) === codeOf(language))) return null
    return { code: 'language_not_spoken', language }
  }
  const judged = judgeText(checkOf(info), query.text, encoded.text.tokenCount)
  if (judged.in === 'spoken') return null
  return judged.in === 'other'
    ? { code: 'language_not_spoken', language: judged.language }
    : { code: 'text_not_understood', language: null }
}

/** The notice about the query; it says what the results are ordered by. */
export function noticeOfQuery(info: Bundle, finding: Finding): Notice {
  return { ...finding, detail: `${sentence(info, 'The query', finding)} There is no match.` }
}

/** Notices about documents, one for each kind of finding. @param findings - null for no finding */
export function noticesOfDocuments(info: Bundle, findings: readonly (Finding | null)[]): Notice[] {
  const byKind = new Map<string, Notice & { documents: number[] }>()
  findings.forEach((finding, at) => {
    if (finding === null) return
    const { code, language } = finding
    const kind = `${code} ${language}`
    const notice = byKind.get(kind) ?? { ...finding, detail: '', documents: [] }
    notice.documents.push(at)
    byKind.set(kind, notice)
  })
  return [...byKind.values()].map((notice) => {
    const [first] = notice.documents
    const more = notice.documents.length - 1
    const subject = `documents[${first}]${more > 0 ? ` and ${more} more` : ''}`
    return { ...notice, detail: `${sentence(info, subject, notice)} There is no match.` }
  })
}

function checkOf(info: Bundle): LanguageCheck {
  const known = checks.get(info)
  if (known !== undefined) return known
  const check = new LanguageCheck(spokenBy(info))
  checks.set(info, check)
  return check
}

function sentence(info: Bundle, subject: string, { code, language }: Finding): string {
  const spoken = spokenBy(info).map(nameOf).join(', ')
  if (code === 'text_not_understood') return `${subject} is not in a language that is known.`
  const found = language === null ? 'another language' : nameOf(language)
  return `${subject} seems to be in ${found}; the bundle ${info.name} understands ${spoken}.`
}

/** "French (fr)" */
function nameOf(tag: string): string {
  const name = names.of(tag) ?? tag
  return name === tag ? tag : `${name} (${tag})`
}

/** Scripts (ISO 15924) of languages and of letters. */

/** Scripts that CLDR names for a language, and the ones that its texts are written in. */
const MIXED: Readonly<Record<string, readonly string[]>> = {
  Hans: ['Hani', 'Bopo'],
  Hant: ['Hani', 'Bopo'],
  Jpan: ['Hani', 'Hira', 'Kana'],
  Kore: ['Hang', 'Hani'],
}
/** Written without spaces between words. */
const UNSPACED =
  /[\p{Script=Hani}\p{Script=Hira}\p{Script=Kana}\p{Script=Thai}\p{Script=Laoo}\p{Script=Khmr}\p{Script=Mymr}]/gu
/** A word of a script without spaces has about two letters. */
const LETTERS_PER_WORD = 2

/** Tags for no language in particular, which CLDR would take for English. */
const COLLECTIVE = new Set(['mul', 'und', 'mis', 'zxx'])

/** The scripts of a language by its BCP 47 tag; none for a tag that CLDR does not know. */
export function scriptsOf(language: string): readonly string[] {
  if (COLLECTIVE.has(language)) return []
  const { script } = new Intl.Locale(language).maximize()
  return script === undefined ? [] : (MIXED[script] ?? [script])
}

/** Matches each letter of one of the scripts, and letters that all scripts share. */
export function lettersOf(scripts: readonly string[]): RegExp {
  const classes = ['Zyyy', 'Zinh', ...scripts].map((script) => `\\p{scx=${script}}`).join('')
  return new RegExp(`(?=\\p{L})[${classes}]`, 'gu')
}

/** Words that a text without spaces has, roughly. */
export function unspacedWords(text: string): number {
  return (text.match(UNSPACED)?.length ?? 0) / LETTERS_PER_WORD
}

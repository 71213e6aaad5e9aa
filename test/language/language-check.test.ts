import { describe, expect, it } from 'vitest'
import { LanguageCheck } from '../../src/language/language-check.js'

const english = new LanguageCheck(['en'])

describe('a check for English', () => {
  it.each([
    ['fr', 'un chien court sur la plage avec un ballon rouge'],
    ['de', 'zwei Mädchen spielen auf einem Skateboard im Hof'],
    ['cs', 'dvě dívky si hrají na dvorku na skateboardu'],
    ['vi', 'quả bóng tennis ở trên lưới của cái vợt'],
    ['es', 'una mujer con un sombrero rojo'],
    ['nl', 'een hond rent op het strand'],
    ['pl', 'kobieta w czerwonym kapeluszu'],
    ['zh', '在玩滑板的两个女孩。'],
    ['ja', 'スケートボードで遊ぶ二人の女の子'],
    ['ko', '두 소녀가 스케이트보드를 탄다'],
    ['ar', 'فتاتان تلعبان على لوح تزلج في فناء'],
    ['ru', 'две девочки играют на скейтборде'],
    ['hi', 'दो लड़कियां स्केटबोर्ड पर खेल रही हैं'],
    ['el', 'δύο κορίτσια παίζουν στην αυλή'],
  ])('finds a caption in %s: %s', (language, text) => {
    expect(english.judge(text)).toEqual({ in: 'other', language })
  })

  it.each(['犬', 'пляж', 'ምድር', 'ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ'])('finds another script in a short text: %s', (text) =>
    expect(english.judge(text).in).toBe('other'),
  )

  it.each([
    ...['dog', 'paella', 'schnauzer', 'tuk-tuk', 'naïve', 'piñata', 'dgo', 'qwertyuiop', 'IKEA'],
    ...['são paulo', 'crème brûlée', 'pho bo', 'rio de janeiro', 'leonardo da vinci', 'coq au vin'],
    ...['volkswagen beetle', 'Grey Innerwear', 'bow tie', 'grils playing socer in feild'],
    ...['a man eating paella at the playa in Barcelona', 'α-helix protein', 'dog 犬', 'X'],
    ...['12345', '😀', '❤️ 🐶', '?!', 'IMG_2041.jpg', 'https://example.org/photos/12?w=3'],
    ...['a dog', 'two girls play on a skateboard in a courtyard .', 'A'.repeat(5000)],
  ])('takes as spoken: %s', (text) => {
    expect(english.judge(text)).toEqual({ in: 'spoken' })
  })

  it.each([
    ['de', 'ein hund'],
    ['de', 'zwei Mädchen spielen'],
    ['fr', 'un chien'],
    ['fr', 'femme avec chapeau'],
    ['cs', 'pes na pláži'],
    ['vi', 'một người'],
    ['es', 'tres perros'],
    // The tokenizer tells names, which it knows, from these.
    ['es', 'buenos aires'],
    ['ms', 'kuala lumpur'],
  ])('takes a short text with a function word of %s as probable: %s', (language, text) => {
    expect(english.judge(text)).toEqual({ in: 'probably', language })
  })

  it.each([
    ...['red hat', 'two cats sit', 'a cat', 'bald man', 'dog sits', 'blue car door', 'la la land'],
    ...['el paso', 'los angeles', 'mardi gras', 'chili con carne', 'pad thai', 'vincent van gogh'],
    ...['salvador dali', 'playa del carmen', 'café au lait', 'shiba inu', 'numero uno', 'de'],
  ])('does not take names, dishes and English words for function words: %s', (text) => {
    expect(english.judge(text)).toEqual({ in: 'spoken' })
  })

  it('finds a text without an n-gram of any language', () => {
    for (const text of ['zxqv blorp 12345', 'xqzv wrtp lkjh mnbv', 'fgjhfgj dfghd'])
      expect(english.judge(text)).toEqual({ in: 'none' })
  })

  it('judges the start of a long text', () => {
    expect(english.judge(`un chien court sur la plage ${'avec un ballon '.repeat(700)}`)).toEqual({
      in: 'other',
      language: 'fr',
    })
  })
})

describe('the languages of the bundle', () => {
  it.each([
    [['de'], 'a man rides a bicycle in the park', 'other'],
    [['de'], 'zwei Mädchen spielen auf einem Skateboard', 'spoken'],
    [['en', 'zh'], '在玩滑板的两个女孩。', 'spoken'],
    [['en', 'zh'], 'two girls play on a skateboard', 'spoken'],
    [['en', 'zh'], 'deux filles jouent dans la cour', 'other'],
    [['zh'], 'two girls play on a skateboard', 'other'],
    [['zh'], 'dog', 'other'],
    [['ja'], 'スケートボードで遊ぶ二人の女の子', 'spoken'],
    [['nb'], 'to jenter leker på et skateboard i gården', 'spoken'],
    [['pt-BR'], 'um cachorro corre na praia', 'spoken'],
  ])('%j decide about "%s": %s', (spoken, text, judged) => {
    expect(new LanguageCheck(spoken).judge(text).in).toBe(judged)
  })

  it('are not judged where they are not known', () => {
    const texts = ['deux filles jouent dans la cour', '在玩滑板的两个女孩。', 'xqzv wrtp lkjh']
    for (const spoken of [[], ['mul'], ['und']])
      for (const text of texts)
        expect(new LanguageCheck(spoken).judge(text)).toEqual({ in: 'spoken' })
  })

  it('are judged by script alone where the language cannot be identified', () => {
    const esperanto = new LanguageCheck(['eo'])
    expect(esperanto.judge('du knabinoj ludas sur rultabulo en la korto').in).toBe('spoken')
    expect(esperanto.judge('deux filles jouent dans la cour').in).toBe('spoken')
    expect(esperanto.judge('在玩滑板的两个女孩。').in).toBe('other')
  })
})

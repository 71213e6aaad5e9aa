import { describe, expect, it } from 'vitest'
import { readConfig } from '../../src/config.js'
import { exposureRemark, isLoopback } from '../../src/http/exposure.js'

const remark = (environment: Record<string, string>): string | null =>
  exposureRemark(readConfig(environment))

describe('a loopback address', () => {
  it.each([
    '127.0.0.1',
    '127.8.9.10',
    'localhost',
    'LocalHost',
    '::1',
    '[::1]',
    '::ffff:127.0.0.1',
  ])('is %s', (host) => {
    expect(isLoopback(host)).toBe(true)
  })

  it.each([
    '0.0.0.0',
    '::',
    '192.168.1.5',
    '127.0.0.1.example.org',
    '127.example.org',
    'localhost.example.org',
    '128.0.0.1',
    '::2',
    '',
  ])('is not %j', (host) => {
    expect(isLoopback(host)).toBe(false)
  })
})

describe('a service without keys', () => {
  it('serves this machine only, and logs it', () => {
    expect(remark({})).toMatch(/only this machine can reach/)
  })

  it.each(['0.0.0.0', '::', '10.0.0.7', 'photos.example.org'])(
    'refuses HOST=%s and says what to do',
    (HOST) => {
      expect(() => remark({ HOST })).toThrow(
        /API_KEYS.*API_KEYS_FILE.*HOST=127\.0\.0\.1.*TRUSTED_NETWORK=true/,
      )
      expect(() => remark({ HOST })).toThrow(HOST)
    },
  )

  it('serves a trusted network, and logs that every client may change items', () => {
    expect(remark({ HOST: '0.0.0.0', TRUSTED_NETWORK: 'true' })).toMatch(
      /read and change all items/,
    )
  })

  it.each(['yes', '1', 'TRUE'])('refuses TRUSTED_NETWORK=%s', (value) => {
    expect(() => remark({ HOST: '0.0.0.0', TRUSTED_NETWORK: value })).toThrow(
      /takes one of false, true/,
    )
  })
})

it.each([{ API_KEYS: 'first-secret' }, { API_KEYS_FILE: './keys' }])(
  'a service with %j serves any network',
  (keys) => {
    expect(remark({ HOST: '0.0.0.0', ...keys })).toBeNull()
  },
)

import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { maskOf } from '../../../../runtime/body/slot/mask.ts'

const mask = maskOf({ TOKEN: 'secret-token-1234', URL: 'secret-url' }) as (text: string) => string

test('HANDOVER 15.5: a value is replaced by its name', () => {
  expect(mask('a secret-token-1234 b secret-url')).toBe('a [TOKEN] b [URL]')
})

test('HANDOVER 15.5: a value is found as JSON, console.log and a URL have it', () => {
  const value = 'p"w\\d-9$kQ~\'long pass'
  const found = maskOf({ TOKEN: value }) as (text: string) => string
  expect(found(JSON.stringify({ password: value }))).toBe('{"password":"[TOKEN]"}')
  expect(found(inspect({ password: value }))).toMatch(/^\{ password: .\[TOKEN\]. \}$/)
  expect(found(`https://x/?key=${encodeURIComponent(value)}&a=1`)).toBe('https://x/?key=[TOKEN]&a=1')
})

test('HANDOVER 15.5: a text that was cut in the middle of a value ends with its name', () => {
  for (let shown = 1; shown < 17; shown++) {
    const cut = 'secret-token-1234'.slice(0, shown)
    const text = `${'x'.repeat(4096 - shown)}${cut}`
    expect(mask(text)).toMatch(/x\[(TOKEN|URL)\]$/)
  }
  expect(mask('a short text may end with secret-t')).toBe('a short text may end with secret-t')
})

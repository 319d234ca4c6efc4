import { describe, expect, test } from 'vitest'
import { mayBeSloppy } from '../../../../deploy/laptop/bundler/sloppy.ts'

describe('a module that may need sloppy mode', () => {
  test.each([
    ["'use strict'\nx = 1", false],
    ['"use strict"; x = 1', false],
    ["#!/usr/bin/env node\n// 'no'\n/* 'use strict' */ 'use strict'", false],
    ['#!/usr/bin/env node', true],
    ["/* 'use strict' */ x = 1", true],
    ["x = 1; 'use strict'", true],
    ['/* never ends', true],
    ['', true],
  ])('%j: %s', (text, expected) => {
    expect(mayBeSloppy(text)).toBe(expected)
  })

  test('thousands of comments are passed over one by one', () => {
    const comments = '/** what it does\n * // and how\n */\n;f()\n// and\n\n'.repeat(20_000)
    expect(mayBeSloppy(comments)).toBe(true)
    expect(mayBeSloppy(`${comments.replaceAll(';f()', '')}'use strict'`)).toBe(false)
  })
})

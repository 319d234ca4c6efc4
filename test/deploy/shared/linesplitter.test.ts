import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LineSplitter } from '../../../deploy/shared/linesplitter.ts'

test('bytes that are cut anywhere give the lines of the whole, and the rest', () => {
  const text = fc.array(fc.constantFrom('a', 'é', '€', '🤖', '\r', '\n', '\n\n')).map((parts) => parts.join(''))
  fc.assert(
    fc.property(text, fc.array(fc.nat(3)), (whole, lengths) => {
      const splitter = new LineSplitter()
      const bytes = Buffer.from(whole)
      const lines: string[] = []
      let at = 0
      for (const length of lengths) {
        lines.push(...splitter.push(bytes.subarray(at, at + length)))
        at += length
      }
      lines.push(...splitter.push(bytes.subarray(at)))
      expect([...lines, splitter.rest]).toEqual(whole.split('\n'))
    }),
  )
})

test('text is taken as it is, and a rest that was dropped does not come back', () => {
  const splitter = new LineSplitter()
  expect(splitter.push('one\ntw')).toEqual(['one'])
  expect(splitter.rest).toBe('tw')
  splitter.rest = ''
  expect(splitter.push('three\n\n')).toEqual(['three', ''])
})

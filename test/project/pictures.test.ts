/** The pictures of the documentation are there, and are what a browser shows to everybody. */
import { expect, test } from 'vitest'
import { expectPicture, faults, PICTURES } from './pictures.ts'
import { text } from './tree.ts'

test.each(PICTURES)('$file is a small picture with a description, and $shownBy shows it', (picture) => {
  const svg = text(picture.file)
  expectPicture(svg)
  expect(Buffer.byteLength(svg)).toBeLessThanOrEqual(picture.most)
  expect(text(picture.shownBy)).toMatch(new RegExp(`!\\[[^\\]]{20,}\\]\\(${picture.link}\\)`))
})

test('a file that is not well-formed is no picture', () => {
  expect(faults('<a b="1"><c/>x &amp; y</a>')).toEqual([])
  for (const bad of ['<a>', '<a></b>', '<a b=1/>', '<a b="1" b="2"/>', '<a>x & y</a>', '<a/>x', '<a><b</a>']) {
    expect(faults(bad), bad).not.toEqual([])
  }
})

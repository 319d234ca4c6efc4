/** `npm run pictures` draws the pictures of the documentation from a push that it records. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { run } from '../../../e2e/robot.ts'
import { expectPicture, PICTURES } from '../../../project/pictures.ts'
import { ROOT } from '../../../project/tree.ts'

test('a recorded push is drawn: pins and phases, and its terminal', { tags: ['slow'] }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-pictures-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const main = join(ROOT, 'dist/test/pictures/main.js')
  const { status, stderr } = await run(main, ['--pushes', '1', '--out', folder])
  expect(status, stderr).toBe(0)
  const [pins = '', terminal = ''] = PICTURES.map(({ file, most }) => {
    const svg = readFileSync(join(folder, file), 'utf8')
    expectPicture(svg)
    expect(Buffer.byteLength(svg)).toBeLessThanOrEqual(most)
    return svg
  })
  expect(pins).toMatch(/the switch: \d+\.\d\d ms in which no program could write/)
  expect(terminal).toContain('medulla push arm')
  expect(terminal).toContain('running arm 1.1.0')
})

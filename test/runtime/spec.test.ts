/** What a person who writes `robot()` wrongly is told at the build, before anything leaves the laptop. */
import { expect, test } from 'vitest'
import { checkSpec } from '../../runtime/sdk/spec.ts'

const run = () => {}

test.each([
  [{ neds: { led: 'output' }, run }, "needs: expected an object like { led: 'output' }, got undefined"],
  [{ needs: { led: 'lamp' }, run }, 'led: expected one of output, input,'],
  [{ needs: { state: 'output' }, run }, 'a handle cannot be called state'],
  [{ needs: {}, state: { version: 0, initial: run }, run }, 'state.version: expected a whole number from 1, got 0'],
  [{ needs: {} }, 'run: expected a function'],
])('%j', (spec, says) => {
  expect(() => checkSpec(spec as never)).toThrow(says)
})

/** Messages for mistakes in `robot()`, which the build shows before anything leaves the laptop. */
import { expect, test } from 'vitest'
import { checkSpec } from '../../../runtime/sdk/spec.ts'

const run = () => {}

test.each([
  [{ neds: { led: 'output' }, run }, "robot() has no 'neds'; did you mean 'needs'?"],
  [{ needs: { led: 'lamp' }, run }, "led: there is no kind 'lamp', expected one of output, input,"],
  [{ needs: { led: 'Outptu' }, run }, "led: there is no kind 'Outptu'; did you mean 'output'?"],
  [{ needs: { 'left led': 'output' }, run }, 'a handle cannot be called left led: letters, digits'],
  [{ needs: 5, run }, "needs: expected an object like { led: 'output' }, got 5"],
  [{ led: 'output' }, 'run is missing, expected robot('],
  [undefined, 'run is missing, expected robot('],
  [{ needs: { led: 'output', run }, run }, 'one object with needs and run, or needs and a function'],
  [{ needs: {}, state: { version: 1, intial: run }, run }, "state has no 'intial'; did you mean 'initial'?"],
  [{ needs: {}, state: { version: 1 }, run }, 'state.initial: expected a function like'],
  [{ needs: {}, state: { version: 1, initial: run, migrate: { upp: run } }, run }, "did you mean 'up'?"],
  [{ needs: {}, params: { kp: 'fast' }, run }, 'params.kp: a text needs the choices'],
  [{ needs: {}, config: ['token'], run }, 'config: a name is A-Z, then up to 63 of A-Z, 0-9 and _, got "token"'],
  [{ needs: {}, config: ['A', 'A'], run }, 'config: A is listed twice'],
  [{ needs: {}, config: { A: 1 }, run }, "config: expected a list of names like ['MQTT_URL', 'TOKEN']"],
  [{ needs: {}, config: Array.from({ length: 33 }, (_, at) => `N${at}`), run }, 'config: 33 names, at most 32'],
  [{ needs: { config: 'output' }, run }, 'a handle cannot be called config'],
  [{ needs: { state: 'output' }, run }, 'a handle cannot be called state'],
  [{ needs: {}, state: { version: 0, initial: run }, run }, 'state.version: expected a whole number from 1, got 0'],
  [{ needs: {} }, 'run: expected a function'],
])('%j', (spec, says) => {
  expect(() => checkSpec(spec as never)).toThrow(says)
})

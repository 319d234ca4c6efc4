// The first rehearsal meets it, on dummy handles.
import { robot } from 'medulla'

robot({
  needs: { led: 'output', enable: 'output' },
  state: { version: 1, initial: () => ({ n: 0 }) },
  run({ enable }) {
    enable.write(0)
    throw new Error('the gripper is not calibrated')
  },
})

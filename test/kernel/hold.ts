/** Set-up before the test files of the rig. */
import { inRig } from './guest.ts'
import { holdTracepoints } from './trace.ts'

if (inRig) holdTracepoints()

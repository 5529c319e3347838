import { test } from 'tap'
import { storeConformance } from '../../../plugins/store/conformance.js'
import { lmdbSetup } from '../../support/lmdb.js'

storeConformance((name, fn) => test(name, async (t) => { await fn(); t.pass() }), lmdbSetup)

import './suite.js'

"""English words that say something about difficulty: task words by depth, terms by domain, clause words. Data only.

Depths are in the units of features.py (strength = −ln(1 − value)): about 0.3 for a task that needs a little thought,
0.6 for an explanation or comparison, 1.6 and more for analysis, design and proof. Words are lower-case; plurals in -s
are found by their singular.
"""

from __future__ import annotations

TASKS: dict[str, float] = {
    **dict.fromkeys("how write list find".split(), 0.25),
    **dict.fromkeys(
        """explain describe compare contrast summarise summarize summary difference differences outline plan improve
        discuss interpret illustrate debug fix implement why implications reasons causes pros cons advantages
        disadvantages recommend suggest steps strategy paraphrase classify convert query function script program essay
        works work cause happen regulate""".split(),
        0.6,
    ),
    **dict.fromkeys(
        """analyse analyze analysis critique assess argue justify investigate diagnose review optimise optimize
        synthesise synthesize formulate estimate quantify trade-offs tradeoffs trade-off consequences evaluate
        refactor model simulate""".split(),
        1.3,
    ),
    **dict.fromkeys(
        "prove proof derive derivation design develop architect construct critically rigorously propose invent".split(),
        1.8,
    ),
}

CLAUSES: frozenset[str] = frozenset(
    """although because since unless whereas while whether which whose whom if then therefore thus hence however given
    such provided assuming including without within must should cannot despite considering respectively both either
    neither where when until so that under instead rather against between across""".split()
)

EMPHASIS: frozenset[str] = frozenset(
    """detail detailed details depth in-depth comprehensive thorough thoroughly systematic systematically rigorous
    rigorous step-by-step formally complete quantitative quantitatively""".split()
)

_DOMAINS: dict[str, str] = {
    "mathematics": """algebra algebraic calculus theorem lemma integral derivative differential equation polynomial matrix
        eigenvalue vector topology manifold prime irrational rational integer sqrt logarithm convergence converge series
        probability stochastic statistics statistical bayesian variance regression geometry geometric combinatorics
        induction inequality convex convexity optimisation optimization gradient fourier group ring hilbert banach
        continuous bounded finite infinite modulo root roots square solution solutions hypothesis estimator permutation
        proof proofs graph vertex limit fibonacci""",
    "physics": """quantum relativity relativistic entanglement thermodynamics entropy photon electron particle boson
        quark gravity gravitational spacetime hole momentum velocity acceleration magnetic electromagnetic semiconductor
        superconductivity optics wavelength nuclear fusion fission hamiltonian lagrangian schrodinger doppler plasma
        cosmology galaxy orbit kinetic friction energy engine combustion mechanics""",
    "chemistry": """molecule molecular reaction catalyst enzyme acid oxidation polymer organic chemical chemistry ion
        isotope compound stoichiometry chromatography spectroscopy equilibrium electrolysis battery corrosion""",
    "biology": """cell dna rna gene genetic genome protein photosynthesis evolution evolutionary mitosis neuron bacteria
        virus ecology ecosystem metabolism chromosome crispr species mutation antibody immune organism hormone""",
    "medicine": """medicine medical clinical diagnosis patient disease therapy vaccine cancer tumour tumor surgery drug
        pharmacology dose diabetes insulin cardiovascular symptom epidemiology pandemic trial hospital healthcare
        treatment antibiotic psychiatric""",
    "computing": """algorithm algorithmic complexity computing compiler database sql api kernel thread concurrency
        distributed consensus raft paxos latency throughput cache caching encryption cryptography kubernetes docker
        microservice microservices python java javascript rust golang tcp udp http tls neural network transformer
        lstm backpropagation recursion recursive pointer runtime garbage deadlock scheduler scalability scalable sharding
        replication partition halting undecidable decidable automaton regex software hardware cpu gpu memory postgresql
        redis kafka server backend frontend schema transaction blockchain machine learning embedding dataset loop
        code stack queue binary hash array tree""",
    "law": """law legal contract liability tort plaintiff defendant constitution constitutional statute jurisdiction
        copyright patent gdpr compliance regulation regulatory regulations court litigation treaty sovereignty arbitration
        clause trademark antitrust criminal negligence rights""",
    "finance": """inflation monetary fiscal bank banks portfolio derivative derivatives hedge arbitrage equity bond yield
        credit default swap swaps liquidity valuation interest mortgage black-scholes volatility cvar gdp tax taxation
        accounting economy economic economics market markets supply demand pricing investment financial recession
        currency tariff reimbursement auction""",
    "history": """revolution empire dynasty medieval renaissance colonial colonialism treaty war civilisation
        civilization industrial ottoman roman feudal enlightenment historiography historical""",
    "philosophy": """philosophy philosophical ethics ethical moral morality kant kantian utilitarianism utilitarian
        epistemology ontology metaphysics stoicism buddhism existentialism categorical imperative consciousness
        free-will determinism justice dialectic phenomenology rawls nietzsche""",
    "engineering": """architecture architectural protocol controller feedback robotics sensor actuator signal bandwidth
        aerodynamics turbine bridge structural reliability fault tolerance tolerant circuit voltage autonomous control
        filter kalman simulation material thermal monolith deployment tenant multi-tenant rollback migration""",
    "society": """policy geopolitical geopolitics democracy sociology sociological psychology psychological linguistics
        linguistic anthropology demographic climate carbon emission sustainability inequality governance migration
        pedagogy cognitive bias stakeholder strategy go-to-market macroeconomic""",
    "literature": """metaphor narrative narrator allegory symbolism sonnet poetics rhetoric protagonist hermeneutics
        modernism postmodern shakespeare intertextuality""",
}

DOMAINS: dict[str, str] = {word: domain for domain, words in _DOMAINS.items() for word in words.split()}

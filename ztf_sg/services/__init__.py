"""Where catalogues and images come from: one module per service, the only place that knows a URL.

A catalogue service has ``query_region``; an image service has ``origin``, ``search_images`` and
``get_cutout``. :class:`~ztf_sg.simulation.MockSky` is both, offline and simulated;
:class:`~ztf_sg.services.legacy_survey.LegacySurvey`, its files in
:class:`~ztf_sg.services.sweeps.LegacySurveySweeps`, and :class:`~ztf_sg.services.irsa.Irsa` are live.
:func:`~ztf_sg.services.gaia.crossmatch_gaia` adds Gaia sources to the objects of a catalogue; ``MockSky`` has
it as a method.

What the live services share: :class:`~ztf_sg.services.query_cache.QueryCache` keeps answers on disk, so that
nothing is asked twice; :class:`~ztf_sg.services.retries.Retries` asks again after a fault;
:mod:`~ztf_sg.services.errors` has an exception for each thing to do about it.
"""

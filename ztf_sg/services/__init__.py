"""Where catalogues and images come from: one module per service, the only place that knows a URL.

A catalogue service has ``query_region``; an image service has ``origin``, ``search_images`` and
``get_cutout``. :class:`~ztf_sg.services.mock_sky.MockSky` is both, offline and simulated;
:class:`~ztf_sg.services.legacy_survey.LegacySurvey` and :class:`~ztf_sg.services.irsa.Irsa` are live.
"""

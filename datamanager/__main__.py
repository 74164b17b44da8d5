import sys

from datamanager.cli import main

sys.exit(main())

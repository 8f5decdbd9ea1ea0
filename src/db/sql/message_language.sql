select current_setting('lc_messages')
